"""Turns training rows of any known layout into the prompt/completion rows that TRL's completion-only loss needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.columns import check_dataset, is_messages, is_text
from hf_mlalign.data.layouts import Layout, message_turns, readable, recognise_layout
from hf_mlalign.launch.common import PROMPT_IDS

if TYPE_CHECKING:
    from datasets import Dataset

READY = ("prompt", "completion")
FORMATS = ("auto", "conversational", "standard")
SEPARATOR = "\n\n"
"""Separates instruction and response of plain rows (*ours*), so that a prompt ends at a token boundary."""


def to_training_rows(
    ds: Dataset, column_mapping: Mapping[str, str] | None = None, row_format: str = "auto", has_template: bool = True
) -> Dataset:
    """Rows with prompt and completion; of the other columns, only the language and the ids are kept.

    Args:
        ds: prompt/completion rows (used unchanged), or any layout that `hf_mlalign.data.layouts.recognise_layout`
            knows. In messages, the last assistant turn is the completion and everything before it the prompt.
        column_mapping: your column → role, see `recognise_layout`.
        row_format: form of rows that are not prompt/completion yet: "conversational" messages, "standard" texts, or
            "auto": messages if the tokenizer has a chat template.
        has_template: whether the tokenizer has one.
    Raises:
        DataError: an unknown layout, a missing text (row named), or messages for a tokenizer without a template.
    """
    check_dataset(ds)
    if row_format not in FORMATS:
        raise DataError(f"row_format: unknown {row_format!r}. Known: {listed(FORMATS)}.")
    types = [ds.data.schema.field(name).type for name in READY if name in ds.column_names]
    ready = len(types) == 2 and (all(map(is_text, types)) or all(map(is_messages, types)))
    if not column_mapping and ready:
        rows, language = ds, "language"
        for name in READY:
            for row, value in enumerate(ds[name]):
                _check_text(value if isinstance(value, str) or not value else value[-1]["content"], name, row)
    else:
        layout = recognise_layout(ds.column_names, column_mapping)
        conversational = row_format == "conversational" or (row_format == "auto" and has_template)
        rows, language = _converted(readable(ds, layout), layout, conversational), layout.language
    if is_messages(rows.data.schema.field("prompt").type) and not has_template:
        raise DataError("model_name_or_path: the tokenizer has no chat template for conversational rows. Set one with "
                        "--chat_template_path, or give plain texts (--row_format standard).")  # fmt: skip
    kept = [*READY, *(c for c in ("task", *PROMPT_IDS[:-1]) if c in rows.column_names)]
    if language is None or language not in rows.column_names:
        return rows.select_columns(kept)
    rows = rows if language == "language" else rows.rename_column(language, "language")
    return rows.select_columns([*kept, "language"])


def _check_text(text: str | None, column: str, row: int) -> None:
    if not text or not text.strip():
        raise DataError(f"Column {column!r}, row {row}: missing or blank. Drop such rows.")


def _converted(ds: Dataset, layout: Layout, conversational: bool) -> Dataset:
    """`ds` with prompt and completion in place of its text columns."""
    from datasets import Dataset

    prompts, completions = [], []
    if layout.messages:
        for row, value in enumerate(ds[layout.messages]):
            prompt, completion = _last_answer(value, layout.messages, row)
            if not conversational and len(prompt) > 1:
                raise DataError(
                    f"Column {layout.messages!r}, row {row}: {len(prompt)} messages before the answer cannot be "
                    "plain text. Use --row_format conversational and a tokenizer with a chat template."
                )
            prompts.append(prompt if conversational else prompt[0]["content"] + SEPARATOR)
            completions.append([completion] if conversational else completion["content"])
    else:
        for row, (prompt, completion) in enumerate(zip(*layout.read(ds[:]), strict=True)):
            _check_text(prompt, layout.instruction, row)
            _check_text(completion, layout.response, row)
            prompts.append([{"role": "user", "content": prompt}] if conversational else prompt + SEPARATOR)
            completions.append([{"role": "assistant", "content": completion}] if conversational else completion)
    kept = {c: ds[c][:] for c in ds.column_names if c not in {*layout.text_columns, *READY}}
    return Dataset.from_dict({**kept, "prompt": prompts, "completion": completions})


def _last_answer(value: Any, column: str, row: int) -> tuple[list[dict[str, str]], dict[str, str]]:
    """(the messages before the last assistant turn, that turn)."""
    turns = [{"role": role, "content": text} for role, text in message_turns(value or [], column, row)]
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    if not last or any(not turn["content"] for turn in turns[: last + 1]):
        raise DataError(f"Column {column!r}, row {row}: needs a prompt and an assistant turn after it, none of them "
                        "empty. Drop such rows.")  # fmt: skip
    return turns[:last], turns[last]
