"""Training rows in any of the known layouts to the prompt/completion rows that TRL's completion-only loss needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.arrow import is_messages, is_text
from hf_mlalign.data.layouts import Layout, message_turns, readable, recognise_layout
from hf_mlalign.data.roles import check_split
from hf_mlalign.launch.common import PROMPT_IDS

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = ("auto", "conversational", "standard")
SEPARATOR = "\n\n"
"""Between instruction and response of plain rows (*ours*): a prompt ends on a token boundary."""


def to_training_rows(
    ds: Dataset, column_mapping: Mapping[str, str] | None = None, row_format: str = "auto", has_template: bool = True
) -> Dataset:
    """prompt and completion, and of the other columns only the language and the ids.

    Args:
        ds: prompt/completion rows (taken as they are), or any layout that `hf_mlalign.data.layouts.recognise_layout`
            knows. Of messages, the last assistant turn is the completion and all before it the prompt.
        column_mapping: your column → role, see `recognise_layout`.
        row_format: of rows that are not prompt/completion yet: "conversational" messages, "standard" texts, or "auto":
            messages if the tokenizer has a chat template.
        has_template: whether it has.
    Raises:
        DataError: an unknown layout, a missing text (row named), or messages for a tokenizer without a template.
    """
    check_split(ds)
    if row_format not in FORMATS:
        raise DataError(f"row_format: unknown {row_format!r}. Known: {listed(FORMATS)}.")
    if not len(ds):
        raise DataError("dataset: it has no rows.")
    if not column_mapping and {"prompt", "completion"} <= set(ds.column_names) and _ready(ds):
        rows, kept, language = ds, ["prompt", "completion"], "language"
        _check_present(ds)
    else:
        schema = recognise_layout(ds.column_names, column_mapping)
        conversational = row_format == "conversational" or (row_format == "auto" and has_template)
        rows, kept, language = _converted(readable(ds, schema), schema, conversational), [], schema.language
    if is_messages(rows.data.schema.field("prompt").type) and not has_template:
        raise DataError("model_name_or_path: the tokenizer has no chat template for conversational rows. Set one with "
                        "--chat_template_path, or give plain texts (--row_format standard).")  # fmt: skip
    kept = ["prompt", "completion", *(c for c in ("task", *PROMPT_IDS[:-1]) if c in rows.column_names)]
    if language is None or language not in rows.column_names:
        return rows.select_columns(kept)
    rows = rows if language == "language" else rows.rename_column(language, "language")
    return rows.select_columns([*kept, "language"])


def _ready(ds: Dataset) -> bool:
    types = [ds.data.schema.field(name).type for name in ("prompt", "completion")]
    return all(map(is_text, types)) or all(map(is_messages, types))


def _check_present(ds: Dataset) -> None:
    for name in ("prompt", "completion"):
        for row, value in enumerate(ds[name]):
            text = value if isinstance(value, str) or not value else value[-1]["content"]
            if not text or not text.strip():
                raise DataError(f"Column {name!r}, row {row}: missing or blank. Drop such rows.")


def _converted(ds: Dataset, schema: Layout, conversational: bool) -> Dataset:
    """`ds` with prompt and completion in place of its text columns."""
    from datasets import Dataset

    if schema.messages:
        pairs = [_split(value, schema.messages, row) for row, value in enumerate(ds[schema.messages])]
        if not conversational:
            pairs = [_plain(*pair, schema.messages, row) for row, pair in enumerate(pairs)]
    else:
        texts = zip(*schema.read(ds[:]), strict=True)
        pairs = [_pair(*both, schema, row, conversational) for row, both in enumerate(texts)]
    kept = {c: ds[c][:] for c in ds.column_names if c not in {*schema.text_columns, "prompt", "completion"}}
    return Dataset.from_dict({**kept, "prompt": [p for p, _ in pairs], "completion": [c for _, c in pairs]})


def _pair(instruction: str | None, response: str | None, schema: Layout, row: int, conversational: bool) -> tuple:
    for text, column in ((instruction, schema.instruction), (response, schema.response)):
        if not text or not text.strip():
            raise DataError(f"Column {column!r}, row {row}: missing or blank. Drop such rows.")
    if conversational:
        return [{"role": "user", "content": instruction}], [{"role": "assistant", "content": response}]
    return instruction + SEPARATOR, response


def _split(value: Any, column: str, row: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    turns = [{"role": role, "content": text} for role, text in message_turns(value or [], column, row)]
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    if not last or any(not turn["content"] for turn in turns[: last + 1]):
        raise DataError(f"Column {column!r}, row {row}: needs a prompt and an assistant turn after it, none of them "
                        "empty. Drop such rows.")  # fmt: skip
    return turns[:last], turns[last : last + 1]


def _plain(prompt: Sequence[dict], completion: Sequence[dict], column: str, row: int) -> tuple[str, str]:
    if len(prompt) > 1:
        raise DataError(f"Column {column!r}, row {row}: {len(prompt)} messages before the answer have no plain form. "
                        "Use --row_format conversational and a tokenizer with a chat template.")  # fmt: skip
    return prompt[0]["content"] + SEPARATOR, completion[0]["content"]
