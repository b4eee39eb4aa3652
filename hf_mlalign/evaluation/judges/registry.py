"""Judges by name: language models, reward models, similarity, rules, people, and your own."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.evaluation.judges.base import Judge

JUDGES: dict[str, str | Callable[..., Judge]] = {
    "llm": "hf_mlalign.evaluation.judges.llm:LLMJudge",
    "reward_model": "hf_mlalign.evaluation.judges.reward_model:RewardModelJudge",
    "similarity": "hf_mlalign.evaluation.judges.rules:SimilarityJudge",
    "length": "hf_mlalign.evaluation.judges.rules:LengthJudge",
    "language": "hf_mlalign.evaluation.judges.rules:LanguageJudge",
    "human": "hf_mlalign.evaluation.annotation.judge:HumanJudge",
}
"""Name → class, or "module:class", which is imported when it is asked for."""


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
            raise DataError(f"judge: the options {listed(options)} come too late for a judge that is made already.")
        return name
    make = _found(name or "similarity")
    try:
        return make(**options) if isinstance(make, type) or options else make
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        problem = f"it has no option {unknown[1]!r}" if unknown else str(error)
        raise DataError(f"judge {name or 'similarity'!r}: {problem}.") from error


def register_judge(name: str) -> Callable[[Any], Any]:
    """Decorator that enters a class or a function (prompts, a, b) in `JUDGES`.

    Raises:
        DataError: the name is one of the package's.
    """

    def enter(judge: Any) -> Any:
        if isinstance(JUDGES.get(name), str):
            raise DataError(f"judge: the name {name!r} is one of the package's. Choose another.")
        JUDGES[name] = judge
        return judge

    return enter


def _found(name: str) -> Any:
    if name not in JUDGES and ":" not in name:
        raise DataError(f"judge: there is no {name!r}. There are: {listed(JUDGES)}; or module:name for your own.")
    found = JUDGES.get(name, name)
    if not isinstance(found, str):
        return found
    module, _, attribute = found.partition(":")
    try:
        judge = getattr(_imported(module), attribute)
    except Exception as error:
        raise DataError(f"judge: {found!r} cannot be imported: {type(error).__name__}: {error}.") from error
    if not callable(judge):
        raise DataError(f"judge: {found!r} is no class or function.")
    return judge


def _imported(module: str) -> Any:
    """The module; looked for in the working directory last, so that a file there hides none that is installed."""
    here = os.getcwd()
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(here)
