"""Recognise the instruction-data layouts of the ecosystem and read (instruction, response) texts from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_mlalign.core.errors import DataError, listed

ROLES = ("instruction", "input", "response", "messages", "language", "id")

# Complete layouts, by the roles they fill. The first name of a role is the one shown in messages.
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
LANGUAGE_COLUMNS = ("language_code", "lang_code", "language", "lang", "locale")
_USER_ROLES = ("user", "human", "prompter")
_ASSISTANT_ROLES = ("assistant", "gpt", "model", "bot")


@dataclass(frozen=True)
class Layout:
    """Which column plays which role. `layout` is a key of `LAYOUTS` or "column_mapping"."""

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
        return tuple(c for c in (self.instruction, self.input, self.response, self.messages) if c)

    @property
    def mapping(self) -> dict[str, str]:
        """The text columns as a `column_mapping`: column → role."""
        return {c: role for role in ("instruction", "input", "response", "messages") if (c := getattr(self, role))}

    def read(
        self, batch: Mapping[str, Sequence], indices: Sequence[int] | None = None
    ) -> tuple[list[str | None], list[str | None]]:
        """Instructions (with their input appended after a blank line) and responses of a batch of rows.

        Args:
            batch: column name → sequence of n values.
            indices: the n row numbers used in error messages (default 0 … n−1).
        Returns:
            Two lists of n texts; `None` where a row has no such text.
        Raises:
            DataError: a value is neither text nor missing (column and row are named).
        """
        if self.messages:
            turns = [_split_turns(v, self.messages, _row(indices, i)) for i, v in enumerate(batch[self.messages])]
            return [t[0] for t in turns], [t[1] for t in turns]
        instructions = self._texts(batch, self.instruction, indices, "user")
        responses = self._texts(batch, self.response, indices, "assistant")
        if self.input:
            inputs = self._texts(batch, self.input, indices, "user")
            instructions = [_with_input(a, b) for a, b in zip(instructions, inputs, strict=True)]
        return instructions, responses

    def read_row(self, row: Mapping[str, Any], index: int | None = None) -> tuple[str | None, str | None]:
        """(instruction, response) of one row; see `read`."""
        batch = {column: [row[column]] for column in self.text_columns}
        instructions, responses = self.read(batch, None if index is None else [index])
        return instructions[0], responses[0]

    @staticmethod
    def _texts(batch, column, indices, side) -> list[str | None]:
        return [_as_text(v, column, _row(indices, i), side) for i, v in enumerate(batch[column])]


def recognise_layout(columns: Iterable[str], column_mapping: Mapping[str, str] | None = None) -> Layout:
    """Find out which columns hold what.

    Args:
        columns: the dataset's column names.
        column_mapping: your column name → role, a role being one of "instruction", "input", "response", "messages",
            "language", "id", e.g. `{"question": "instruction", "answer": "response"}`. Wins over recognition.
    Returns:
        A `Layout`. Recognised without a mapping: Alpaca (instruction/input/output), instruction/output,
        instruction/response, prompt/completion and prompt/response (plain or conversational), Aya inputs/targets,
        messages (role/content) and conversations (from/value).
    Raises:
        DataError: no layout fits, several do, or the mapping names an unknown role or a missing column; the message
            lists the columns that were found.
    """
    columns = list(columns)
    language = next((c for c in LANGUAGE_COLUMNS if c in columns), None)
    row_id = next((c for c in ("id", "prompt_id") if c in columns), None)
    if column_mapping:
        return _from_mapping(columns, dict(column_mapping), language, row_id)
    fits = [name for name, roles in LAYOUTS.items() if set(roles.values()) <= set(columns)]
    if "alpaca" in fits and "instruction/output" in fits:
        fits.remove("instruction/output")
    if not fits:
        known = "; ".join(f"{name} ({', '.join(roles.values())})" for name, roles in LAYOUTS.items())
        raise DataError(
            f"No known instruction layout in the columns found: {listed(columns)}. Known layouts: {known}. "
            'Say which column is which with column_mapping, e.g. {"question": "instruction", "answer": "response"}.'
        )
    if len(fits) > 1:
        raise DataError(
            f"The columns found ({listed(columns)}) fit several layouts: {listed(fits)}. "
            "Choose one with column_mapping={column: role}."
        )
    roles = dict(LAYOUTS[fits[0]])
    if roles.get("instruction") == "instruction" and "input" in columns:
        roles.setdefault("input", "input")
    return Layout(fits[0], **roles, language=language, id=row_id)


def _from_mapping(columns: list[str], mapping: dict[str, str], language, row_id) -> Layout:
    missing = [c for c in mapping if c not in columns]
    if missing:
        raise DataError(
            f"column_mapping names columns that are not there: {listed(missing)}. Columns found: {listed(columns)}."
        )
    unknown = [r for r in mapping.values() if r not in ROLES]
    if unknown:
        raise DataError(f"column_mapping has unknown roles: {listed(unknown)}. Roles: {listed(ROLES)}.")
    roles = {role: column for column, role in mapping.items()}
    if len(roles) < len(mapping):
        raise DataError(f"column_mapping gives one role to two columns: {mapping}.")
    if "messages" not in roles and not {"instruction", "response"} <= roles.keys():
        roles = {**recognise_layout(columns).__dict__, **roles}  # a mapping of, say, only the language column
        roles.pop("layout")
    if {"instruction", "response"} & set(mapping.values()) and "messages" not in mapping.values():
        roles.pop("messages", None)
    roles.setdefault("language", language)
    roles.setdefault("id", row_id)
    return Layout("column_mapping", **roles)


def text_pair_columns(columns: Iterable[str], features: Mapping[str, Any] | None, schema: Layout) -> None:
    """Check before any work that `schema`'s text columns have a type texts can be read from.

    Raises:
        DataError: naming each column and its type.
    """
    from datasets import Value

    missing = [c for c in schema.text_columns if c not in set(columns)]
    if missing:
        raise DataError(f"Columns not found: {listed(missing)}. Columns found: {listed(columns)}.")
    for column in schema.text_columns if features else ():
        feature = features[column]
        if isinstance(feature, Value) and feature.dtype not in ("string", "large_string", "string_view", "null"):
            raise DataError(
                f"Column {column!r} holds {feature.dtype} from row 0 on, not text. "
                f"Convert it with ds.cast_column({column!r}, Value('string')) or map another column to its role."
            )
        if isinstance(feature, dict) or _is_list_without_messages(feature):
            raise DataError(
                f"Column {column!r} holds {str(feature)[:80]} from row 0 on, neither text nor a list of messages. Map "
                "another column to its role."
            )


def _is_list_without_messages(feature: Any) -> bool:
    from datasets import LargeList, List, Value

    if not isinstance(feature, (List, LargeList)):
        return False
    inner = feature.feature
    return not isinstance(inner, dict) and not (isinstance(inner, Value) and inner.dtype == "null")


def readable(ds, schema: Layout):
    """`ds` with text columns that hold nothing but nulls (which CSV readers type as numbers) turned into text columns.

    Raises:
        DataError: as `text_pair_columns`.
    """
    from datasets import Value

    for column in schema.text_columns:
        feature = ds.features.get(column) if ds.features else None
        other_type = isinstance(feature, Value) and "string" not in feature.dtype and len(ds)
        if other_type and ds.data.column(column).null_count == ds.data.num_rows:
            ds = ds.cast_column(column, Value("string"))
    text_pair_columns(ds.column_names, ds.features, schema)
    return ds


def clean_text(text: str) -> str:
    """`text` with lone surrogates (which no tokenizer or Arrow column can hold) replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _row(indices: Sequence[int] | None, i: int) -> int:
    return i if indices is None else int(indices[i])


def _with_input(instruction: str | None, extra: str | None) -> str | None:
    if instruction is None or extra is None or not extra.strip():
        return instruction
    return f"{instruction}\n\n{extra}"


def _as_text(value: Any, column: str, row: int, side: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and (not value or isinstance(value[0], Mapping)):
        turns = message_turns(value, column, row)  # conversational prompt/completion: the last turn of that side
        return next((text for role, text in reversed(turns) if role == side), None)
    raise DataError(
        f"Column {column!r}, row {row}: expected text, found {type(value).__name__} ({str(value)[:60]!r}). "
        "Convert the column to strings or map another column to this role."
    )


def message_turns(value: Any, column: str, row: int) -> list[tuple[str, str | None]]:
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
    """First user turn with all context before the last assistant turn as instruction; that turn as response."""
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
