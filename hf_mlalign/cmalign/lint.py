"""`lint_preferences`: known traps in a preference dataset, before a model learns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import check_whole
from hf_mlalign.data.arrow import arrow_column, is_list, is_messages, is_text, last_contents

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SEVERITIES = ("error", "warning", "info")
LANGUAGE_SAMPLE = 2_000


@dataclass(frozen=True)
class Finding:
    """One trap found.

    Attributes:
        code: short name, e.g. "language-shortcut".
        severity: "error" (training fails or is pointless), "warning" (a model may learn the wrong thing) or "info".
        message: what it is and what to do.
        count, total: rows concerned, of how many looked at.
        rows: the first few row numbers.
        split: the split, "" for a single dataset.
    """

    code: str
    severity: str
    message: str
    count: int
    total: int
    rows: tuple[int, ...] = ()
    split: str = ""

    def __str__(self) -> str:
        where = f"{self.split}: " if self.split else ""
        rows = f" First rows: {', '.join(map(str, self.rows))}." if self.rows else ""
        share = f"{self.count:,} of {self.total:,} rows"
        return f"{self.severity.upper():8}{self.code}: {where}{share}. {self.message}{rows}"


class Findings(list):
    """A list of `Finding`s, worst first, that prints readably; `codes` has their names."""

    @property
    def codes(self) -> list[str]:
        return [finding.code for finding in self]

    @property
    def ok(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "info" for finding in self)

    def __str__(self) -> str:
        return "\n".join(map(str, self)) if self else "No known trap found."

    __repr__ = __str__


@dataclass
class _Split:
    name: str
    prompts: pa.Array | None
    chosen: pa.Array
    rejected: pa.Array
    languages: np.ndarray | None
    ids: np.ndarray | None
    last_turns: pa.Array | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: str, severity: str, bad: np.ndarray, message: str, total: int | None = None) -> None:
        rows = np.flatnonzero(bad)
        if len(rows):
            first = tuple(int(row) for row in rows[:5])
            self.findings.append(
                Finding(code, severity, message, len(rows), total or len(self.chosen), first, self.name)
            )


def lint_preferences(ds: Dataset | DatasetDict, *, sample: int = LANGUAGE_SAMPLE, seed: int = 0) -> Findings:
    """Look for known traps in a preference dataset of any of TRL's formats.

    Standard or conversational, with explicit `prompt` or the prompt inside `chosen` and `rejected`. A `DatasetDict` is
    also checked for prompts that stand in several splits.

    Codes: `empty-split`, `mixed-format`, `missing-text`, `empty-text`, `identical-pair`, `contradicting-pairs`,
    `bad-margin` (errors);
    `language-shortcut`, `wrong-language`, `length-bias`, `length-outlier`, `prompt-in-completion`, `duplicate-row`,
    `split-leak`, `one-language-dominates`, `reference-repeated` (warnings); `tie`, `few-rows` (info).

    Args:
        sample: how many evenly drawn rows have their languages identified (2,000, *ours*).
        seed: of that draw.
    Raises:
        DataError: no columns chosen and rejected.
    """
    import datasets

    check_whole(sample, "sample")
    check_whole(seed, "seed")
    splits = dict(ds) if isinstance(ds, datasets.DatasetDict) else {"": ds}
    found: list[Finding] = []
    read: list[_Split] = []
    for name, part in splits.items():
        split = _read_split(part, name)
        if isinstance(split, Finding):
            found.append(split)
            continue
        for check in (_texts, _pairs, _lengths, _prompts, _balance, _scores):
            check(split, part)
        _languages(split, sample, seed)
        read.append(split)
        found += split.findings
    found += _leaks(read)
    return Findings(sorted(found, key=lambda f: (SEVERITIES.index(f.severity), -f.count, f.code)))


def _read_split(ds: Any, name: str) -> _Split | Finding:
    import datasets

    if not isinstance(ds, datasets.Dataset):
        raise DataError(f"Expected a datasets.Dataset or DatasetDict, got {type(ds).__name__}.")
    missing = [column for column in ("chosen", "rejected") if column not in ds.column_names]
    if missing:
        raise DataError(f"No column {listed(missing)} among those found: {listed(ds.column_names)}. Rename yours.")
    if not len(ds):
        return Finding("empty-split", "error", "There are no rows. Check the split and filters.", 0, 0, (), name)
    values = {c: arrow_column(ds, c) for c in ("prompt", "chosen", "rejected") if c in ds.column_names}
    kinds = {c: "text" if is_text(v.type) else "messages" if is_messages(v.type) else str(v.type)
             for c, v in values.items()}  # fmt: skip
    if len(set(kinds.values())) > 1 or not set(kinds.values()) <= {"text", "messages"}:
        shown = ", ".join(f"{c}: {kind}" for c, kind in kinds.items())
        return Finding("mixed-format", "error", f"The columns must all be texts, or all lists of role/content messages "
                       f"({shown}); TRL fails deep inside otherwise.", len(ds), len(ds), (), name)  # fmt: skip
    language = next((c for c in ("language", "lang") if c in ds.column_names), None)
    ids = _names(arrow_column(ds, "prompt_id")) if "prompt_id" in ds.column_names else None
    return _Split(
        name,
        _all_contents(values["prompt"]) if "prompt" in values else _implicit_prompts(values["chosen"]),
        last_contents(values["chosen"], "chosen"),
        last_contents(values["rejected"], "rejected"),
        None if language is None else _names(arrow_column(ds, language)),
        ids,
        _last_user_turns(values["prompt"]) if "prompt" in values else _last_user_turns(values["chosen"]),
    )


def _names(values: pa.Array) -> np.ndarray:
    """(n,) objects; lists and other nested values as their text, since arrays of them would be of more dimensions."""
    nested = pa.types.is_nested(values.type)
    return np.asarray([str(v) if nested else v for v in values.to_pylist()], dtype=object)


def _all_contents(values: pa.Array) -> pa.Array:
    """All messages of a prompt as one text."""
    if not is_list(values.type):
        return values
    return pa.array([None if m is None else "\n".join(str(t["content"]) for t in m) for m in values.to_pylist()],
                    pa.string())  # fmt: skip


def _implicit_prompts(chosen: pa.Array) -> pa.Array | None:
    if not is_messages(chosen.type):
        return None
    return pa.array(["\n".join(str(t["content"]) for t in (m or [])[:-1]) for m in chosen.to_pylist()], pa.string())


def _last_user_turns(values: pa.Array) -> pa.Array | None:
    """The last message of the user in each row; `None` for texts."""
    if not is_messages(values.type):
        return None
    turns = ([str(t["content"]) for t in m or [] if t["role"] == "user"] for m in values.to_pylist())
    return pa.array([contents[-1] if contents else None for contents in turns], pa.string())


def _bool(values: pa.Array) -> np.ndarray:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)


def _texts(split: _Split, ds: Dataset) -> None:
    missing = np.zeros(len(ds), bool)
    empty = np.zeros(len(ds), bool)
    for values in (split.prompts, split.chosen, split.rejected):
        if values is not None:
            missing |= values.is_null().to_numpy(zero_copy_only=False)
            empty |= _bool(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0))
    split.add("missing-text", "error", missing, "A prompt, chosen or rejected text is missing. Drop these rows.")
    split.add("empty-text", "error", empty, "A prompt, chosen or rejected text is blank. Drop these rows.")
    if len(ds) < 100:
        split.add("few-rows", "info", np.ones(len(ds), bool), "Too few rows for the checks of bias to mean much.")


def _pairs(split: _Split, ds: Dataset) -> None:
    same = _bool(pc.equal(pc.utf8_trim_whitespace(split.chosen), pc.utf8_trim_whitespace(split.rejected)))
    split.add("identical-pair", "error", same, "Chosen and rejected are the same text: there is nothing to learn.")
    if split.prompts is None:
        return
    keys = [_hashes(split.prompts), _hashes(split.chosen), _hashes(split.rejected)]
    forward = _combine(keys[0], keys[1], keys[2])
    split.add("duplicate-row", "warning", _repeats(forward), "The same prompt, chosen and rejected came before.")
    backward = _combine(keys[0], keys[2], keys[1])
    split.add("contradicting-pairs", "error", np.isin(forward, backward) & ~same,
              "The same pair stands in the other order elsewhere. Keep one of the two.")  # fmt: skip


def _hashes(values: pa.Array) -> np.ndarray:
    """(n,) int64 hashes of the texts without surrounding white space (of this process only)."""
    encoded = pc.fill_null(values, "").dictionary_encode()
    distinct = np.fromiter((hash(text.strip()) for text in encoded.dictionary.to_pylist()), np.int64)
    return distinct[encoded.indices.to_numpy(zero_copy_only=False)]


def _combine(*keys: np.ndarray) -> np.ndarray:
    out = np.zeros(len(keys[0]), np.int64)
    with np.errstate(over="ignore"):
        for key in keys:
            out = out * np.int64(6364136223846793005) + key
    return out


def _repeats(keys: np.ndarray) -> np.ndarray:
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return ~first


def _lengths(split: _Split, ds: Dataset) -> None:
    a, b = (pc.fill_null(pc.utf8_length(v), 0).to_numpy(zero_copy_only=False) for v in (split.chosen, split.rejected))
    low, high = np.minimum(a, b), np.maximum(a, b)
    split.add("length-outlier", "warning", high > 10 * np.maximum(low, 1),
              "One text is more than 10 times as long as the other. Use max_length_ratio.")  # fmt: skip
    differ = a != b
    if differ.sum() < 30:
        return
    for name, side in (("chosen", a > b), ("rejected", a < b)):
        share = side[differ].mean()
        if share > 0.65:
            message = (
                f"The {name} text is the longer one in {share:.0%} of the pairs that differ in length (mean "
                f"{a.mean():.0f} against {b.mean():.0f} characters): a model can learn the length. "
                "Balance the pairs, or train with a length-desensitised loss."
            )
            split.add("length-bias", "warning", side, message)


def _prompts(split: _Split, ds: Dataset) -> None:
    if split.prompts is None:
        return
    inside = np.zeros(len(ds), bool)
    for prompts in (split.prompts, split.last_turns):
        for values in (split.chosen, split.rejected) if prompts is not None else ():
            inside |= np.fromiter(
                (bool(p) and bool(t) and len(p.strip()) >= 20 and t.lstrip().startswith(p.strip())
                 for p, t in zip(prompts.to_pylist(), values.to_pylist(), strict=True)), bool, len(ds),
            )  # fmt: skip
    split.add("prompt-in-completion", "warning", inside,
              "A completion begins with its prompt, so the prompt is trained on as an answer. Cut it off.")  # fmt: skip


def _balance(split: _Split, ds: Dataset) -> None:
    if split.languages is None:
        return
    names, counts = np.unique([str(name) for name in split.languages], return_counts=True)
    top = int(counts.argmax())
    if len(names) > 1 and counts[top] > min(0.8, max(0.5, 2 / len(names))) * len(ds):
        split.add("one-language-dominates", "warning", split.languages == names[top],
                  f"{names[top]!r} has {counts[top] / len(ds):.0%} of the rows of {len(names)} languages. "
                  "Balance them.")  # fmt: skip
    if "reference" in ds.column_names:
        reference = last_contents(arrow_column(ds, "reference"), "reference")
        if is_text(reference.type):
            same = _bool(pc.equal(reference, split.chosen)) & (split.languages != "en")
            split.add("reference-repeated", "warning", same, "The chosen text is the English reference itself.")


def _scores(split: _Split, ds: Dataset) -> None:
    if "margin" not in ds.column_names:
        return
    values = arrow_column(ds, "margin")
    if pa.types.is_null(values.type):
        values = values.cast(pa.float64())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        split.add("bad-margin", "error", np.ones(len(ds), bool),
                  f"Column margin holds {values.type}, not numbers. Convert or drop it.")  # fmt: skip
        return
    margins = values.to_numpy(zero_copy_only=False)
    split.add("tie", "info", ~(margins > 0), "The margin is not positive: the scores do not tell the two apart.")


def _languages(split: _Split, sample: int, seed: int) -> None:
    rows = np.arange(len(split.chosen))
    if len(rows) > sample:
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
    (a, p), (b, q) = _identify(split, split.chosen, rows), _identify(split, split.rejected, rows)
    sure = (p >= 0.95) & (q >= 0.95)
    differ = np.zeros(len(split.chosen), bool)
    differ[rows[sure & (a != b)]] = True
    split.add("language-shortcut", "warning", differ, "Chosen and rejected are in different languages: a model can "
              "learn the language instead of the content. Use require_language.", len(rows))  # fmt: skip
    if split.languages is not None:
        from hf_mlalign.data.languages import normalise

        want = np.asarray([normalise(str(name)) for name in split.languages[rows]], dtype=object)
        known = np.isin(want.astype(str), list(_known(split)))
        wrong = np.zeros(len(split.chosen), bool)
        wrong[rows[known & (p >= 0.95) & (a != want) & (a != "")]] = True
        split.add("wrong-language", "warning", wrong, "The chosen text is not in the row's language.", len(rows))


def _known(split: _Split) -> Sequence[str]:
    from hf_mlalign.cmalign.pairs import identifiable
    from hf_mlalign.data.languages import LanguageIdentifier, normalise

    if split.languages is None:
        return LanguageIdentifier.DEFAULT
    codes = {normalise(str(name)) for name in set(split.languages.tolist())} | {"en"}
    return sorted(code for code in codes if code and identifiable(code))


def _identify(split: _Split, values: pa.Array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from hf_mlalign.cmalign.pairs import identifier

    texts = values.take(pa.array(rows)).to_pylist()
    enough = [text if text and sum(c.isalpha() for c in text[:200]) >= 20 else None for text in texts]
    found = identifier(tuple(_known(split))).identify(enough)
    return np.asarray([code or "" for code, _ in found], dtype=object), np.asarray([p for _, p in found])


def _leaks(splits: list[_Split]) -> list[Finding]:
    """Prompts (by text, or by id) that stand in more than one split."""
    found = []
    for i, split in enumerate(splits):
        leaked = np.zeros(len(split.chosen), bool)
        for other in splits[:i]:
            if split.prompts is not None and other.prompts is not None:
                leaked |= np.isin(_hashes(split.prompts), _hashes(other.prompts))
            if split.ids is not None and other.ids is not None:
                leaked |= np.isin(split.ids.astype(str), other.ids.astype(str))
        if leaked.any():
            rows = tuple(int(row) for row in np.flatnonzero(leaked)[:5])
            found.append(
                Finding("split-leak", "warning", "The prompt, or its prompt_id in another language, is in an earlier "
                        "split, too. Split by prompt_id.", int(leaked.sum()), len(leaked), rows, split.name)
            )  # fmt: skip
    return found
