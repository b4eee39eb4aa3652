"""What a judge is given and what it returns: one protocol for models, rules and people."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_list, as_numbers, as_texts, shown
from hf_mlalign.data.languages import known_code
from hf_mlalign.generation.requests import Message, to_messages

CONTEXT = ("languages", "references", "prompt_ids")
"""What is handed to a judge as keyword arguments, if its signature has them."""

Prompt = str | Sequence[Message]


class Judge(Protocol):
    """Whatever compares two answers: any function or object that is called like this.

    Args:
        prompts: n texts or message lists (role, content).
        a, b: n answers each; a is the candidate, and the answer shown first where the judge shows them in order.
        languages, references, prompt_ids: n values each, handed over if the signature has them.
    Returns:
        (n,) preferences for a in [0, 1]: 1 = a is better, 0.5 = tie, 0 = b is better, NaN = not judged.
    """

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> np.ndarray: ...


@dataclass
class Judgements:
    """The outcome of n comparisons.

    Attributes:
        predictions: (n,) float64, preference for a when a is shown first; NaN = not judged.
        swapped_predictions: (n,) float64, preference *for a* when b is shown first; `None` if only one order was asked.
            Equal to `predictions` for judges that do not look at the order.
        reasons: n texts, "" where the comparison was judged, else why not.
        usage: requests, cached, prompt_tokens, completion_tokens, …; empty for judges that count none.
        replies: the judge's own words for the two orders, if it has any.
    """

    predictions: np.ndarray
    swapped_predictions: np.ndarray | None
    reasons: list[str]
    usage: dict[str, int] = field(default_factory=dict)
    replies: tuple[list[str], list[str]] | None = None

    @property
    def preferences(self) -> np.ndarray:
        """(n,) float64: the mean of both orders, NaN if either is missing; or the one order that was asked."""
        if self.swapped_predictions is None:
            return self.predictions
        return (self.predictions + self.swapped_predictions) / 2


@dataclass(frozen=True)
class AnswerPairs:
    """n checked comparisons; `languages` are ISO 639-1 codes, or "" where none is known."""

    prompts: list[tuple[Message, ...]]
    a: list[str]
    b: list[str]
    languages: list[str]
    references: list[str | None]

    def __len__(self) -> int:
        return len(self.prompts)


def check_answer_pairs(
    prompts: Sequence[Prompt],
    a: Sequence[str],
    b: Sequence[str],
    languages: Sequence[str | None] | None = None,
    references: Sequence[str | None] | None = None,
) -> AnswerPairs:
    """Check the arguments of a judge; prompts become message lists.

    Raises:
        DataError: unequal lengths, an answer that is no text, an empty prompt or an unknown language (row named).
    """
    prompts = as_list(prompts, "prompts")
    n, given = len(prompts), {"a": a, "b": b, "languages": languages, "references": references}
    for name, values in given.items():
        if isinstance(values, str):
            raise DataError(f"{name}: one text was given. Give a list with one item a prompt.")
        if values is None and name in ("languages", "references"):
            continue
        given[name] = as_list(values, name)
        if len(given[name]) != n:
            raise DataError(f"{name}: {len(given[name])} values for {n} prompts. Give one a prompt.")
    a, b, languages, references = given.values()
    for name, values in (("a", a), ("b", b)):
        row = next((i for i, value in enumerate(values) if not isinstance(value, str)), None)
        if row is not None:
            found = shown(values[row])
            raise DataError(f'{name}, row {row}: {found} is no text. Drop the row, or give "" for no answer.')
    references = None if references is None else as_texts(references, "references", missing=True)
    languages = None if languages is None else as_texts(languages, "languages", missing=True)
    turns = [check_prompt(prompt, f"prompts, row {row}") for row, prompt in enumerate(prompts)]
    return AnswerPairs(
        turns, list(a), list(b), _codes(languages, n), [None] * n if references is None else list(references)
    )


def check_prompt(prompt: Prompt, where: str) -> tuple[Message, ...]:
    """The messages of a prompt (one user message for a text); a `DataError` that begins with `where` if it is none."""
    try:
        turns = to_messages(prompt if isinstance(prompt, str) else list(prompt), "", answer_in_language=False)
    except (AttributeError, KeyError, TypeError, ValueError):
        turns = ()
    if not any(turn["content"].strip() for turn in turns) or not all(isinstance(t["role"], str) for t in turns):
        found = repr(prompt)[:60]
        raise DataError(f"{where}: expected a text or role/content messages, found {found}. Drop empty prompts.")
    return turns


def _codes(languages: Sequence[str | None] | None, n: int) -> list[str]:
    if languages is None:
        return [""] * n
    distinct: dict[str | None, str] = {}
    for row, name in enumerate(languages):
        if name not in distinct:
            distinct[name] = known_code(name, f"languages, row {row}") if name else ""
    return [distinct[name] for name in languages]


def trivial_preferences(a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """(n,) preferences that need no judge: 0.5 for identical answers, 1 or 0 where one alone is blank, else NaN."""
    out = np.full(len(a), np.nan)
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if x.strip() == y.strip():
            out[i] = 0.5
        elif not x.strip() or not y.strip():
            out[i] = float(bool(x.strip()))
    return out


def run_judge(
    judge: Judge,
    prompts: Sequence[Prompt],
    a: Sequence[str],
    b: Sequence[str],
    *,
    both_orders: bool = True,
    **context: Sequence[Any] | None,
) -> Judgements:
    """Put n comparisons to any judge.

    A judge with a method `compare` that returns `Judgements` decides itself which orders it shows. Any other is called
    twice, the second time with a and b exchanged.

    Args:
        both_orders: for judges without the method `compare`: call it in both orders (*ours*: on).
        **context: n values each of `CONTEXT`; what the judge's signature does not have is left out.
    Raises:
        DataError: bad arguments, or the judge returned something else than n numbers in [0, 1] or NaN, or, being none
            of the package's, raised something itself.
    """
    checked_pairs = check_answer_pairs(prompts, a, b, context.get("languages"), context.get("references"))
    prompts, a, b = as_list(prompts, "prompts"), checked_pairs.a, checked_pairs.b
    compare = getattr(judge, "compare", None)
    call = compare or (judge if callable(judge) else judge.judge)
    known = {name: values for name, values in context.items() if values is not None and _takes(call, name)}
    if call is compare:
        return _called(judge, call, prompts, a, b, known)
    if not len(prompts):
        return Judgements(np.empty(0), np.empty(0) if both_orders else None, [])
    forward = checked(_called(judge, call, prompts, a, b, known), len(prompts), judge)
    swapped = 1 - checked(_called(judge, call, prompts, b, a, known), len(prompts), judge) if both_orders else None
    missing = np.isnan(forward if swapped is None else forward + swapped)
    return Judgements(forward, swapped, ["the judge gave no preference" if m else "" for m in missing])


def _called(judge: Any, call: Any, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str], known: dict) -> Any:
    if _is_of_package(judge):
        return call(prompts, a, b, **known)
    try:
        return call(prompts, a, b, **known)
    except DataError:
        raise
    except Exception as error:
        name = describe(judge)["judge"]
        raise DataError(f"judge {name}: it raised {type(error).__name__}: {error}.") from error


def checked(values: Any, n: int, judge: Any) -> np.ndarray:
    """(n,) float64 in [0, 1] or NaN; a `DataError` that names the judge and the first bad row otherwise."""
    name = describe(judge)["judge"]
    try:
        array = as_numbers(values, "preferences") if getattr(values, "ndim", 1) < 2 else np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise DataError(f"judge {name}: its preferences are no numbers: {error}") from error
    if array.shape != (n,):
        raise DataError(f"judge {name}: it returned the shape {array.shape} for {n} comparisons.")
    bad = np.flatnonzero(~(np.isnan(array) | ((array >= 0) & (array <= 1))))
    if len(bad):
        raise DataError(f"judge {name}, row {bad[0]}: the preference {array[bad[0]]} is outside [0, 1].")
    return array


def describe(judge: Any) -> dict[str, Any]:
    """What identifies a judge in a record: its own `describe()` or its name, and for one of your own `code`.

    `code` is a digest of the source of the module that defines it; `None` where there is no source. Modules that it
    imports are not in it.
    """
    kind, own = _kind(judge), getattr(judge, "describe", None)
    found = dict(own()) if callable(own) else {"judge": f"{kind.__module__}.{kind.__qualname__}"}
    return found if _is_of_package(judge) else {"code": _source_digest(kind), **found}


def _kind(judge: Any) -> Any:
    """The function or class that makes a judge what it is."""
    while isinstance(judge, functools.partial):
        judge = judge.func
    return judge if hasattr(judge, "__qualname__") else type(judge)


def _is_of_package(judge: Any) -> bool:
    return str(_kind(judge).__module__).startswith("hf_mlalign.")


def _source_digest(kind: Any) -> str | None:
    try:
        source = inspect.getsource(inspect.getmodule(kind) or kind)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _takes(call: Any, name: str) -> bool:
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(call).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
