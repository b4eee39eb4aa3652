"""`lint_preferences`: known traps in a preference dataset, before a model learns them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.cmalign.options import LintOptions
from hf_mlalign.cmalign.pairs import identifiable, identifier
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import check_whole
from hf_mlalign.data.columns import arrow_column, find_roles, is_list, is_messages, is_text, last_contents
from hf_mlalign.data.languages import LanguageIdentifier, normalise

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SEVERITIES = ("error", "warning", "info")
TRAPS: dict[str, tuple[str, str]] = {
    "empty-split": ("error", "There are no rows. Check the split and filters."),
    "mixed-format": (
        "error",
        "The columns must all be texts, or all lists of role/content messages ({kinds}); TRL fails deep inside "
        "otherwise.",
    ),
    "missing-text": ("error", "A prompt, chosen or rejected text is missing. Drop these rows."),
    "empty-text": ("error", "A prompt, chosen or rejected text is blank. Drop these rows."),
    "identical-pair": ("error", "Chosen and rejected are the same text: there is nothing to learn."),
    "contradicting-pairs": ("error", "The same pair occurs in the other order elsewhere. Keep one of the two."),
    "bad-margin": ("error", "Column margin holds {kind}, not numbers. Convert or drop it."),
    "language-shortcut": (
        "warning",
        "Chosen and rejected are in different languages: a model can learn the language instead of the content. Use "
        "--require-language (require_language=True).",
    ),
    "wrong-language": ("warning", "The chosen text is not in the row's language."),
    "length-bias": (
        "warning",
        "The {longer} text is the longer one in {share:.0%} of the pairs that differ in length (mean {chosen:.0f} "
        "against {rejected:.0f} characters): a model can learn the length. Balance the pairs, or train with a "
        "length-desensitised loss.",
    ),
    "length-outlier": (
        "warning",
        "One text is more than 10 times as long as the other. Use --max-length-ratio (max_length_ratio).",
    ),
    "prompt-in-completion": (
        "warning",
        "A completion begins with its prompt, so the prompt is trained on as an answer. Cut it off.",
    ),
    "duplicate-row": ("warning", "An earlier row has the same prompt, chosen and rejected."),
    "split-leak": (
        "warning",
        "The prompt, or its prompt_id in another language, is also in an earlier split. Split by prompt_id.",
    ),
    "one-language-dominates": ("warning", "{language!r} has {share:.0%} of the rows of {n} languages. Balance them."),
    "reference-repeated": ("warning", "The chosen text is the English reference itself."),
    "tie": ("info", "The margin is not positive: both texts have the same score."),
    "few-rows": ("info", "There are too few rows for the checks of bias to mean much."),
}
"""Code of a trap → severity ("error": training fails or is pointless; "warning": a model may learn the wrong thing) and
message."""


@dataclass(frozen=True)
class Finding:
    """One trap found.

    Attributes:
        code: key of `TRAPS`, e.g. "language-shortcut".
        severity: "error", "warning" or "info".
        message: what it is and what to do.
        count, total: rows affected, and rows checked.
        rows: the numbers of up to five of these rows.
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
    """The texts of n rows, and what was found in them."""

    name: str
    prompts: pa.Array | None
    chosen: pa.Array
    rejected: pa.Array
    languages: np.ndarray | None
    ids: np.ndarray | None
    last_turns: pa.Array | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: str, bad: np.ndarray, total: int | None = None, **facts: Any) -> None:
        rows = np.flatnonzero(bad)
        if len(rows):
            severity, message = TRAPS[code]
            first = tuple(int(row) for row in rows[:5])
            self.findings.append(
                Finding(code, severity, message.format(**facts), len(rows), total or len(self.chosen), first, self.name)
            )


def lint_preferences(
    ds: Dataset | DatasetDict, *, sample: int = LintOptions.sample, seed: int = LintOptions.seed
) -> Findings:
    """Look for known traps (`TRAPS`) in a preference dataset of any of TRL's formats.

    Standard or conversational, with explicit `prompt` or the prompt inside `chosen` and `rejected`. A `DatasetDict` is
    also checked for prompts that occur in several splits.

    Args:
        sample: how many evenly drawn rows have their languages identified (2,000, *ours*).
        seed: of that draw, 0 or more.
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
        for check in (_texts, _shortcuts, _columns):
            check(split, part)
        _languages(split, sample, seed)
        leaked = np.zeros(len(part), bool)
        for earlier in read:
            if split.prompts is not None and earlier.prompts is not None:
                leaked |= np.isin(_hashes(split.prompts), _hashes(earlier.prompts))
            if split.ids is not None and earlier.ids is not None:
                leaked |= np.isin(split.ids.astype(str), earlier.ids.astype(str))
        split.add("split-leak", leaked)
        read.append(split)
        found += split.findings
    return Findings(sorted(found, key=lambda f: (SEVERITIES.index(f.severity), -f.count, f.code)))


def _read_split(ds: Any, name: str) -> _Split | Finding:
    import datasets

    if not isinstance(ds, datasets.Dataset):
        raise DataError(f"Expected a datasets.Dataset or DatasetDict, got {type(ds).__name__}.")
    missing = [column for column in ("chosen", "rejected") if column not in ds.column_names]
    if missing:
        raise DataError(f"No column {listed(missing)} among those found: {listed(ds.column_names)}. Rename yours.")
    if not len(ds):
        return Finding("empty-split", *TRAPS["empty-split"], 0, 0, (), name)
    values = {c: arrow_column(ds, c) for c in ("prompt", "chosen", "rejected") if c in ds.column_names}
    kinds = {c: "text" if is_text(v.type) else "messages" if is_messages(v.type) else str(v.type)
             for c, v in values.items()}  # fmt: skip
    if len(set(kinds.values())) > 1 or not set(kinds.values()) <= {"text", "messages"}:
        shown = ", ".join(f"{c}: {kind}" for c, kind in kinds.items())
        severity, message = TRAPS["mixed-format"]
        return Finding("mixed-format", severity, message.format(kinds=shown), len(ds), len(ds), (), name)
    language = find_roles(ds.column_names, ["language"]).get("language")
    ids = _names(arrow_column(ds, "prompt_id")) if "prompt_id" in ds.column_names else None
    prompts = values.get("prompt")
    if prompts is None and is_messages(values["chosen"].type):
        prompts = _contents(values["chosen"], slice(-1))  # the prompt is inside of chosen
    elif prompts is not None and is_list(prompts.type):
        prompts = _contents(prompts)
    turns, last_turns = values.get("prompt", values["chosen"]), None
    if is_messages(turns.type):
        of_user = ([str(t["content"]) for t in m or [] if t["role"] == "user"] for m in turns.to_pylist())
        last_turns = pa.array([contents[-1] if contents else None for contents in of_user], pa.string())
    return _Split(
        name,
        prompts,
        last_contents(values["chosen"], "chosen"),
        last_contents(values["rejected"], "rejected"),
        None if language is None else _names(arrow_column(ds, language)),
        ids,
        last_turns,
    )


def _names(values: pa.Array) -> np.ndarray:
    """(n,) objects; lists and other nested values as their text, since arrays of them would be of more dimensions."""
    nested = pa.types.is_nested(values.type)
    return np.asarray([str(v) if nested else v for v in values.to_pylist()], dtype=object)


def _contents(values: pa.Array, which: slice = slice(None)) -> pa.Array:
    """The contents of each row's messages as one text."""
    texts = (None if m is None else "\n".join(str(t["content"]) for t in m[which]) for m in values.to_pylist())
    return pa.array(texts, pa.string())


def _bool(values: pa.Array) -> np.ndarray:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)


def _texts(split: _Split, ds: Dataset) -> None:
    """Missing and blank texts, equal and repeated pairs."""
    missing = np.zeros(len(ds), bool)
    empty = np.zeros(len(ds), bool)
    for values in (split.prompts, split.chosen, split.rejected):
        if values is not None:
            missing |= values.is_null().to_numpy(zero_copy_only=False)
            empty |= _bool(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0))
    split.add("missing-text", missing)
    split.add("empty-text", empty)
    if len(ds) < 100:
        split.add("few-rows", np.ones(len(ds), bool))
    same = _bool(pc.equal(pc.utf8_trim_whitespace(split.chosen), pc.utf8_trim_whitespace(split.rejected)))
    split.add("identical-pair", same)
    if split.prompts is None:
        return
    keys = [_hashes(split.prompts), _hashes(split.chosen), _hashes(split.rejected)]
    forward, backward = _combine(keys[0], keys[1], keys[2]), _combine(keys[0], keys[2], keys[1])
    again = np.ones(len(ds), bool)
    again[np.unique(forward, return_index=True)[1]] = False
    split.add("duplicate-row", again)
    split.add("contradicting-pairs", np.isin(forward, backward) & ~same)


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


def _shortcuts(split: _Split, ds: Dataset) -> None:
    """What a model can learn instead of the content: lengths, and prompts inside answers."""
    a, b = (pc.fill_null(pc.utf8_length(v), 0).to_numpy(zero_copy_only=False) for v in (split.chosen, split.rejected))
    low, high = np.minimum(a, b), np.maximum(a, b)
    split.add("length-outlier", high > 10 * np.maximum(low, 1))
    differ = a != b
    for name, side in (("chosen", a > b), ("rejected", a < b)):
        share = side[differ].mean() if differ.sum() >= 30 else 0
        if share > 0.65:
            split.add("length-bias", side, longer=name, share=share, chosen=a.mean(), rejected=b.mean())
    inside = np.zeros(len(ds), bool)
    for prompts in (split.prompts, split.last_turns) if split.prompts is not None else ():
        for values in (split.chosen, split.rejected) if prompts is not None else ():
            inside |= np.fromiter(
                (bool(p) and bool(t) and len(p.strip()) >= 20 and t.lstrip().startswith(p.strip())
                 for p, t in zip(prompts.to_pylist(), values.to_pylist(), strict=True)), bool, len(ds),
            )  # fmt: skip
    split.add("prompt-in-completion", inside)


def _columns(split: _Split, ds: Dataset) -> None:
    """Columns beside the texts: language, reference, margin."""
    if split.languages is not None:
        names, counts = np.unique([str(name) for name in split.languages], return_counts=True)
        top = int(counts.argmax())
        if len(names) > 1 and counts[top] > min(0.8, max(0.5, 2 / len(names))) * len(ds):
            facts = {"language": str(names[top]), "share": counts[top] / len(ds), "n": len(names)}
            split.add("one-language-dominates", split.languages == names[top], **facts)
    if split.languages is not None and "reference" in ds.column_names:
        reference = last_contents(arrow_column(ds, "reference"), "reference")
        if is_text(reference.type):
            split.add("reference-repeated", _bool(pc.equal(reference, split.chosen)) & (split.languages != "en"))
    if "margin" not in ds.column_names:
        return
    values = arrow_column(ds, "margin")
    if pa.types.is_null(values.type):
        values = values.cast(pa.float64())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        split.add("bad-margin", np.ones(len(ds), bool), kind=values.type)
        return
    margins = values.to_numpy(zero_copy_only=False)
    split.add("tie", ~(margins > 0))


def _languages(split: _Split, sample: int, seed: int) -> None:
    rows, n = np.arange(len(split.chosen)), len(split.chosen)
    if n > sample:
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
    known = list(LanguageIdentifier.DEFAULT)
    if split.languages is not None:
        codes = {normalise(str(name)) for name in set(split.languages.tolist())} | {"en"}
        known = sorted(code for code in codes if code and identifiable(code))

    def identify(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        texts = values.take(pa.array(rows)).to_pylist()
        enough = [text if text and sum(c.isalpha() for c in text[:200]) >= 20 else None for text in texts]
        found = identifier(tuple(known)).identify(enough)
        return np.asarray([code or "" for code, _ in found], dtype=object), np.asarray([p for _, p in found])

    (a, p), (b, q) = identify(split.chosen), identify(split.rejected)
    differ, wrong = np.zeros(n, bool), np.zeros(n, bool)
    differ[rows[(p >= 0.95) & (q >= 0.95) & (a != b)]] = True
    split.add("language-shortcut", differ, len(rows))
    if split.languages is not None:
        want = np.asarray([normalise(str(name)) for name in split.languages[rows]], dtype=object)
        wrong[rows[np.isin(want.astype(str), known) & (p >= 0.95) & (a != want) & (a != "")]] = True
        split.add("wrong-language", wrong, len(rows))
