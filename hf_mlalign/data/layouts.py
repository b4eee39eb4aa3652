"""Recognise the instruction-data layouts of the ecosystem and read (instruction, response) texts from them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.columns import check_dataset, find_roles, read_mapping

if TYPE_CHECKING:
    from datasets import Dataset

TEXT_ROLES = ("instruction", "input", "response", "messages")
LAYOUT_ROLES = (*TEXT_ROLES, "language", "id")

# Complete layouts: role → column name
LAYOUTS: dict[str, dict[str, str]] = {
    "alpaca": {"instruction": "instruction", "input": "input", "response": "output"},
    "instruction/output": {"instruction": "instruction", "response": "output"},
    "instruction/response": {"instruction": "instruction", "response": "response"},
    "prompt/completion": {"instruction": "prompt", "response": "completion"},
    "prompt/response": {"instruction": "prompt", "response": "response"},
    "aya": {"instruction": "inputs", "response": "targets"},
    "messages": {"messages": "messages"},
    "conversations": {"messages": "conversations"},
}
_USER_ROLES = ("user", "human", "prompter")
_ASSISTANT_ROLES = ("assistant", "gpt", "model", "bot")


@dataclass(frozen=True)
class Layout:
    """Which column has which role. `layout` is a key of `LAYOUTS` or "column_mapping"."""

    layout: str
    instruction: str | None = None
    input: str | None = None
    response: str | None = None
    messages: str | None = None
    language: str | None = None
    id: str | None = None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns from which texts are read."""
        return tuple(column for role in TEXT_ROLES if (column := getattr(self, role)))

    @property
    def mapping(self) -> dict[str, str]:
        """The text columns as a `column_mapping`: column → role."""
        return {column: role for role in TEXT_ROLES if (column := getattr(self, role))}

    def read(
        self, batch: Mapping[str, Sequence], indices: Sequence[int] | None = None
    ) -> tuple[list[str | None], list[str | None]]:
        """Instructions (with their input appended after a blank line) and responses of a batch of rows.

        Args:
            batch: column name → sequence of n values.
            indices: n row numbers for error messages (default 0 … n−1).
        Returns:
            Two lists of n texts; `None` if a row has no such text.
        Raises:
            DataError: a value is neither text nor missing (column and row are named).
        """

        def texts(column: str, side: str) -> list[str | None]:
            """The texts themselves, or the last turn of that side in conversational prompts or completions."""
            found = []
            for row, value in zip(rows, batch[column], strict=True):
                if isinstance(value, (list, tuple)) and (not value or isinstance(value[0], Mapping)):
                    turns = message_turns(value, column, row)
                    value = next((text for role, text in reversed(turns) if role == side), None)
                elif value is not None and not isinstance(value, str):
                    raise DataError(
                        f"Column {column!r}, row {row}: expected text, found {type(value).__name__} "
                        f"({str(value)[:60]!r}). Convert the column to texts, or map another column to its role."
                    )
                found.append(value)
            return found

        rows = range(len(batch[self.text_columns[0]])) if indices is None else [int(i) for i in indices]
        if self.messages:
            turns = [_split_turns(v, self.messages, row) for row, v in zip(rows, batch[self.messages], strict=True)]
            return [instruction for instruction, _ in turns], [response for _, response in turns]
        instructions, responses = texts(self.instruction, "user"), texts(self.response, "assistant")
        if self.input:
            inputs = texts(self.input, "user")
            instructions = [
                f"{instruction}\n\n{extra}" if instruction is not None and extra and extra.strip() else instruction
                for instruction, extra in zip(instructions, inputs, strict=True)
            ]
        return instructions, responses

    def read_row(self, row: Mapping[str, Any], index: int | None = None) -> tuple[str | None, str | None]:
        """(instruction, response) of one row; see `read`."""
        batch = {column: [row[column]] for column in self.text_columns}
        instructions, responses = self.read(batch, None if index is None else [index])
        return instructions[0], responses[0]


def recognise_layout(columns: Iterable[str], column_mapping: Mapping[str, str] | None = None) -> Layout:
    """Find out which column has which role.

    Args:
        columns: the dataset's column names.
        column_mapping: your column name → role ("instruction", "input", "response", "messages", "language" or "id"),
            e.g. `{"question": "instruction", "answer": "response"}`. It overrides recognition.
    Returns:
        A `Layout`. Recognised without a mapping: Alpaca (instruction/input/output), instruction/output,
        instruction/response, prompt/completion and prompt/response (plain or conversational), Aya inputs/targets,
        messages (role/content) and conversations (from/value).
    Raises:
        DataError: no layout fits, several do, or the mapping names an unknown role or a missing column. The message
            lists the columns that were found.
    """
    columns = list(columns)
    mapping = read_mapping(columns, column_mapping, LAYOUT_ROLES)
    given = {role: column for column, role in mapping.items()}
    roles = find_roles([column for column in columns if column not in mapping], ("language", "id"))
    layout = "column_mapping"
    if "messages" not in given and not {"instruction", "response"} <= given.keys():
        fits = [name for name, names in LAYOUTS.items() if set(names.values()) <= set(columns)]
        if "alpaca" in fits and "instruction/output" in fits:
            fits.remove("instruction/output")
        if not fits:
            known = "; ".join(f"{name} ({', '.join(names.values())})" for name, names in LAYOUTS.items())
            raise DataError(
                f"No known instruction layout in the columns found: {listed(columns)}. Known layouts: {known}. Say "
                "which column is which with --column-mapping (column_mapping), e.g. question=instruction,"
                "answer=response."
            )
        if len(fits) > 1:
            raise DataError(
                f"The columns found ({listed(columns)}) fit several layouts: {listed(fits)}. Choose one with "
                "--column-mapping (column_mapping), e.g. prompt=instruction,response=response."
            )
        layout = layout if mapping else fits[0]
        roles |= LAYOUTS[fits[0]]
        if roles.get("instruction") == "instruction" and "input" in columns:
            roles["input"] = "input"
    if {"instruction", "response"} & given.keys() and "messages" not in given:
        roles.pop("messages", None)
    return Layout(layout, **(roles | given))


def check_text_columns(columns: Iterable[str], features: Mapping[str, Any] | None, layout: Layout) -> None:
    """Check before any work that texts can be read from the text columns of `layout`.

    Raises:
        DataError: names the column and its type.
    """
    from datasets import LargeList, List, Value

    if missing := [column for column in layout.text_columns if column not in set(columns)]:
        raise DataError(f"Columns not found: {listed(missing)}. Columns found: {listed(columns)}.")
    for column in layout.text_columns if features else ():
        feature = features[column]
        if isinstance(feature, Value) and feature.dtype not in ("string", "large_string", "string_view", "null"):
            raise DataError(
                f"Column {column!r} holds {feature.dtype} from row 0 on, not text. Convert it to texts, or map another "
                "column to its role with --column-mapping (column_mapping)."
            )
        inner = feature.feature if isinstance(feature, (List, LargeList)) else {}
        if isinstance(feature, dict) or not (isinstance(inner, dict) or getattr(inner, "dtype", "") == "null"):
            raise DataError(
                f"Column {column!r} holds {str(feature)[:80]} from row 0 on, neither text nor a list of messages. Map "
                "another column to its role with --column-mapping (column_mapping)."
            )


def readable(ds: Dataset, layout: Layout) -> Dataset:
    """`ds`, in which text columns that hold only nulls (CSV readers type them as numbers) become text columns.

    Raises:
        DataError: as `check_text_columns`.
    """
    from datasets import Value

    for column in layout.text_columns:
        feature = ds.features.get(column)
        other_type = isinstance(feature, Value) and "string" not in feature.dtype and len(ds)
        if other_type and ds.data.column(column).null_count == ds.data.num_rows:
            ds = ds.cast_column(column, Value("string"))
    check_text_columns(ds.column_names, ds.features, layout)
    return ds


def message_turns(value: Iterable[Any], column: str, row: int) -> list[tuple[str, str | None]]:
    """(side, text) of each message: "user", "assistant", or the role as it is, e.g. "system".

    Raises:
        DataError: a message without a role, or whose content is not a text.
    """
    turns = []
    for turn in value:
        role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
        content = turn.get("content", turn.get("value")) if isinstance(turn, Mapping) else None
        if role is None or not (content is None or isinstance(content, str)):
            raise DataError(
                f"Column {column!r}, row {row}: each message needs role and content (or from and value) as text, "
                f"found {str(turn)[:80]!r}."
            )
        side = "user" if role in _USER_ROLES else "assistant" if role in _ASSISTANT_ROLES else role
        turns.append((side, content))
    return turns


def _split_turns(value: Any, column: str, row: int) -> tuple[str | None, str | None]:
    """(instruction, response): all turns before the last assistant turn, joined, and that turn."""
    if value is None:
        return None, None
    if not isinstance(value, (list, tuple)):
        raise DataError(f"Column {column!r}, row {row}: expected a list of messages, found {type(value).__name__}.")
    turns = message_turns(value, column, row)
    last = max((i for i, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    if last is None:
        return "\n\n".join(t for role, t in turns if role == "user" and t) or None, None
    context = [t for _, t in turns[:last] if t]
    return "\n\n".join(context) or None, turns[last][1]


CHECKED_ROWS = 10_000


@dataclass(frozen=True)
class Pairs:
    """Rows with an instruction and a response each.

    Attributes:
        dataset: n rows.
        schema: which column has which role.
        pooled: whether raw and revised responses were pooled, see `pool_revisions`.
    """

    dataset: Dataset
    schema: Layout
    pooled: bool


def open_pairs(ds: Dataset, column_mapping: Mapping[str, str] | None = None) -> Pairs:
    """Recognise the columns of `ds`. Raw and revised responses are pooled unless there is a mapping.

    Raises:
        DataError: not a `Dataset`, no rows, no known layout, or a column without text.
    """
    check_dataset(ds)
    pooled = column_mapping is None and has_revisions(ds.column_names)
    if pooled:
        ds = pool_revisions(ds)
    schema = recognise_layout(ds.column_names, column_mapping)
    return Pairs(readable(ds, schema), schema, pooled)


def check_conversations(pairs: Pairs) -> None:
    """Check every row whose texts are lists of messages. For plain text columns, checking the type is enough.

    Raises:
        DataError: a value is not text (column and first such row are named).
    """
    from datasets import Value

    columns = list(pairs.schema.text_columns)
    if all(isinstance(pairs.dataset.features[column], Value) for column in columns):
        return
    texts = pairs.dataset.select_columns(columns)
    for begin in range(0, len(texts), CHECKED_ROWS):
        end = min(begin + CHECKED_ROWS, len(texts))
        pairs.schema.read(texts[begin:end], range(begin, end))


REVISION_COLUMNS = ("raw_instruction", "raw_response", "revised_response")
REVISION = "revision"


def has_revisions(columns: Iterable[str]) -> bool:
    """Whether a dataset holds raw and revised responses in columns of their own."""
    return set(REVISION_COLUMNS) <= set(columns)


def pool_revisions(ds: Dataset) -> Dataset:
    """Two rows per sample: the raw instruction (and `raw_input`) with the raw and with the revised response.

    If a revision changed nothing, there is no second row. Columns: instruction, input, response, `revision` ("raw" or
    "revised"), and those columns of `ds` that are neither raw nor revised texts (id, language, …).
    """
    from datasets import concatenate_datasets

    dropped = [c for c in ds.column_names if c.startswith(("raw_", "revised_"))]
    names = {"raw_instruction": "instruction", **({"raw_input": "input"} if "raw_input" in dropped else {})}
    parts = []
    for kind in ("raw", "revised"):
        part = ds
        if kind == "revised":
            part = ds.filter(operator.ne, input_columns=list(REVISION_COLUMNS[1:]), desc="Pooling revisions")
        part = part.rename_columns({**names, f"{kind}_response": "response"})
        part = part.remove_columns([c for c in dropped if c in part.column_names])
        parts.append(part.add_column(REVISION, [kind] * len(part)))
    return concatenate_datasets(parts)
