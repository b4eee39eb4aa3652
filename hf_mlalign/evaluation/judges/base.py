"""What a judge gets and what it returns: one protocol for models, rules, people and your own; judges by name."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import flag_of
from hf_mlalign.core.validation import as_list, as_numbers, as_texts, clean_text, shown
from hf_mlalign.data.languages import known_code
from hf_mlalign.data.layouts import message_turns

if TYPE_CHECKING:
    from hf_mlalign.evaluation.options import JudgeOptions

Turns = tuple[dict[str, str], ...]
Prompt = str | Sequence[Mapping[str, str]]


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

    prompts: list[Turns]
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
        DataError: unequal lengths, an answer that is not a text, an empty prompt or an unknown language (row named).
    """
    prompts = as_list(prompts, "prompts")
    n, given = len(prompts), {"a": a, "b": b, "languages": languages, "references": references}
    for name, values in given.items():
        if isinstance(values, str):
            raise DataError(f"{name}: one text was given. Give a list with one item per prompt.")
        if values is None and name in ("languages", "references"):
            given[name] = [None] * n
            continue
        given[name] = as_list(values, name)
        if len(given[name]) != n:
            raise DataError(f"{name}: {len(given[name])} values for {n} prompts. Give one per prompt.")
    for name in ("a", "b"):
        row = next((i for i, value in enumerate(given[name]) if not isinstance(value, str)), None)
        if row is not None:
            found = shown(given[name][row])
            raise DataError(f'{name}, row {row}: {found} is not a text. Drop the row, or give "" for no answer.')
    references = as_texts(given["references"], "references", missing=True)
    codes: dict[str | None, str] = {None: "", "": ""}
    languages = as_texts(given["languages"], "languages", missing=True)
    for row, name in enumerate(languages):
        if name not in codes:
            codes[name] = known_code(name, f"languages, row {row}")
    turns = [check_prompt(prompt, f"prompts, row {row}") for row, prompt in enumerate(prompts)]
    return AnswerPairs(turns, given["a"], given["b"], [codes[name] for name in languages], references)


def check_prompt(prompt: Prompt, where: str) -> Turns:
    """The messages of a prompt, one user message for a text.

    Raises:
        DataError: neither a text nor messages (role/content or from/value) with texts, or nothing but white space; the
            message begins with `where`.
    """
    if isinstance(prompt, str):
        turns = [("user", prompt)]
    else:
        try:
            turns = message_turns(list(prompt), "", 0)
            valid = all(isinstance(role, str) and isinstance(text, str) for role, text in turns)
        except (DataError, TypeError, ValueError):
            valid = False
        if not valid:
            raise DataError(f"{where}: expected a text or role/content messages, found {shown(prompt)}.")
    if not any(text.strip() for _, text in turns):
        raise DataError(f"{where}: the prompt is missing or blank. Drop such rows.")
    return tuple({"role": role, "content": clean_text(text)} for role, text in turns)


def trivial_preferences(a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """(n,) preferences that need no judge: 0.5 for identical answers, 1 or 0 where only one is blank, else NaN."""
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
    """Let any judge make n comparisons.

    A judge with a method `compare` that returns `Judgements` decides itself which orders it shows. Any other is called
    twice, the second time with a and b exchanged.

    Args:
        both_orders: for judges without the method `compare`: call it in both orders (*ours*: on).
        **context: languages, references and prompt_ids, n values each; what the judge's signature does not have is left
            out.
    Raises:
        DataError: bad arguments, or the judge returned something else than n numbers in [0, 1] or NaN, or a judge of
            your own raised something itself.
    """
    pairs = check_answer_pairs(prompts, a, b, context.get("languages"), context.get("references"))
    prompts, n = as_list(prompts, "prompts"), len(pairs)
    compare = getattr(judge, "compare", None)
    call = compare or (judge if callable(judge) else judge.judge)
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):
        parameters = {}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = {name: values for name, values in context.items()
             if values is not None and (takes_all or name in parameters)}  # fmt: skip

    def put(first: list[str], second: list[str]) -> Any:
        try:
            return call(prompts, first, second, **known)
        except Exception as error:
            if isinstance(error, DataError) or _is_of_package(judge):
                raise
            name = describe(judge)["judge"]
            raise DataError(f"judge {name}: it raised {type(error).__name__}: {error}.") from error

    if call is compare:
        return put(pairs.a, pairs.b)
    if not n:
        return Judgements(np.empty(0), np.empty(0) if both_orders else None, [])
    forward = checked(put(pairs.a, pairs.b), n, judge)
    swapped = 1 - checked(put(pairs.b, pairs.a), n, judge) if both_orders else None
    missing = np.isnan(forward if swapped is None else forward + swapped)
    return Judgements(forward, swapped, ["the judge gave no preference" if m else "" for m in missing])


def checked(values: Any, n: int, judge: Any) -> np.ndarray:
    """(n,) float64 in [0, 1] or NaN; a `DataError` that names the judge and the first bad row otherwise."""
    name = describe(judge)["judge"]
    try:
        array = as_numbers(values, "preferences") if getattr(values, "ndim", 1) < 2 else np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise DataError(f"judge {name}: its preferences are not numbers: {error}") from error
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
    if _is_of_package(judge):
        return found
    try:
        source = inspect.getsource(inspect.getmodule(kind) or kind)
    except (OSError, TypeError):
        return {"code": None, **found}
    return {"code": hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16], **found}


def _kind(judge: Any) -> Any:
    """The function or class that makes a judge what it is."""
    while isinstance(judge, functools.partial):
        judge = judge.func
    return judge if hasattr(judge, "__qualname__") else type(judge)


def _is_of_package(judge: Any) -> bool:
    return str(_kind(judge).__module__).startswith("hf_mlalign.")


# --- judges by name ---------------------------------------------------------------------------------------------------

JUDGES: dict[str, str | Callable[..., Judge]] = {
    "llm": "hf_mlalign.evaluation.judges.llm:LLMJudge",
    "reward_model": "hf_mlalign.evaluation.judges.reward_model:RewardModelJudge",
    "similarity": "hf_mlalign.evaluation.judges.rules:SimilarityJudge",
    "length": "hf_mlalign.evaluation.judges.rules:LengthJudge",
    "language": "hf_mlalign.evaluation.judges.rules:LanguageJudge",
    "human": "hf_mlalign.evaluation.annotation.human:HumanJudge",
}
"""Name → class, or "module:class", which is imported when it is asked for."""

SPEED = ("concurrency", "timeout", "batch_size", "device")
"""Options that change how fast a judge is; judges that do not have them ignore them."""
TAKES: dict[str, tuple[str, ...]] = {
    "llm": ("model", "base_url", "template", "both_orders", "temperature", "max_tokens", "structured", "attempts",
            "seed", *SPEED),
    "reward_model": ("model", "hard", "batch_size", "device"),
    "similarity": ("model", "hard"),
    "length": ("hard",),
    "language": ("hard",),
    "human": ("judgements",),
}  # fmt: skip
"""Which of the `JudgeOptions` a judge takes. One of your own takes those of `OF_OWN`, if they are given."""
OF_OWN = ("model", "base_url", "template", "hard")
NEEDS = {"llm": "model", "reward_model": "model", "human": "judgements"}
KEYWORDS = {("similarity", "model"): "encoder", ("human", "judgements"): "source"}
"""Where an option of a judge has another name in its class."""


def load_judge(name: str | Judge | None = None, **options: Any) -> Judge:
    """The judge called `name`.

    Args:
        name: a key of `JUDGES`, "module:attribute" for a judge of your own (of a module that Python finds, or in the
            working directory), or a judge, which is returned as it is. `None` is the similarity judge, which works
            offline.
        **options: of the judge's class; see there.
    Raises:
        DataError: no such judge, options it does not know, or something that cannot be called.
    """
    if name is not None and not isinstance(name, str):
        if not callable(name) and not callable(getattr(name, "judge", None)):
            kind = type(name).__name__
            raise DataError(f"judge: {kind} cannot be called. Pass a function (prompts, a, b) or a name.")
        if options:
            raise DataError(f"judge: this judge is an object. Set {listed(options)} when you make it.")
        return name
    make = _find_judge(name or "similarity")
    try:
        return make(**options) if isinstance(make, type) or options else make
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        problem = f"it has no option {unknown[1]!r}" if unknown else str(error)
        raise DataError(f"judge {name or 'similarity'!r}: {problem}.") from error


def judge_from_options(options: JudgeOptions, judge: str | Judge | None = None, cache: Path | None = None) -> Judge:
    """The judge that a command's options ask for; options that are not set are left to the judge.

    Args:
        judge: replaces `options.judge`, by name or as an object.
        cache: folder for the replies of the judge "llm".
    Raises:
        DataError: an option was given that this judge does not have, or one is missing that it needs, or see
            `load_judge`.
    """
    judge, defaults = options.judge if judge is None else judge, options.defaults()
    known = {name for names in (*TAKES.values(), OF_OWN) for name in names}
    changed = [name for name in defaults if name in known and getattr(options, name) != defaults[name]]
    if not isinstance(judge, str):
        return load_judge(judge, **{name: getattr(options, name) for name in changed if name not in SPEED})
    taken = TAKES.get(judge, OF_OWN)
    flags = {f.name: flag_of(f) for f in fields(options)}
    needed = NEEDS.get(judge)
    if needed and not getattr(options, needed):
        raise DataError(f"{needed}: the judge {judge!r} needs {flags[needed]}.")
    for name in changed:
        if name not in taken and name not in SPEED:
            yes, _, no = flags[name].partition("/")
            flag = (no or f"--no-{yes[2:]}") if getattr(options, name) is False else yes
            has = listed(sorted(flags[other] for other in taken if other not in SPEED), 20)
            raise DataError(f"{flag[2:]}: the judge {judge!r} has no option {flag}. It has {has}.")
    given = {name: getattr(options, name) for name in taken}
    given = {KEYWORDS.get((judge, name), name): value for name, value in given.items()
             if value is not None and (name, value) != ("hard", False)}  # fmt: skip
    return load_judge(judge, **given, **({"cache": cache} if judge == "llm" else {}))


def register_judge(name: str) -> Callable[[Any], Any]:
    """Decorator that registers a class or a function (prompts, a, b) as a judge.

    Raises:
        DataError: the name is one of the package's.
    """

    def enter(judge: Any) -> Any:
        if isinstance(JUDGES.get(name), str):
            raise DataError(f"judge: the name {name!r} belongs to a judge of the package. Choose another.")
        JUDGES[name] = judge
        return judge

    return enter


def _find_judge(name: str) -> Any:
    """The class or function behind a name or "module:attribute".

    The working directory is searched last, so that a file there hides no module that is installed.
    """
    if name not in JUDGES and ":" not in name:
        raise DataError(f"judge: unknown {name!r}. Known: {listed(JUDGES)}; or module:name for your own.")
    found = JUDGES.get(name, name)
    if not isinstance(found, str):
        return found
    module, _, attribute = found.partition(":")
    here = os.getcwd()
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        judge = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise DataError(f"judge: {found!r} cannot be imported: {type(error).__name__}: {error}.") from error
    finally:
        sys.path.remove(here)
    if not callable(judge):
        raise DataError(f"judge: {found!r} is not a class or function.")
    return judge
