"""The options of selection, `curate` and `score`, and how many rows they take from each language.

Names, types, defaults and help texts of the options stand here, and where each default comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_mlalign.core.errors import DataError, counted, listed
from hf_mlalign.core.options import Options, PublishOptions, SourceOptions, UploadOptions, option
from hf_mlalign.core.validation import check_whole

SHARD_ROWS = 20_000
"""Rows per shard (*ours*: about a second of work with the bundled model)."""


@dataclass(kw_only=True)
class SelectionOptions(Options):
    """How rows are selected; the options of `MDaQSelector`."""

    n_quality: int = option(
        6000, "Rows taken for their quality (the authors give the ratio 6:1).", panel="Selection", low=0
    )
    n_diversity: int = option(
        1000, "Rows taken for their diversity (the authors give the ratio 6:1).", panel="Selection", low=0
    )
    budgets: str | dict[str, Any] | None = option(
        None,
        "What the two numbers count: rows of each language, a total shared equally, or a total shared in proportion to "
        "the rows per language. In Python, also a mapping from language to rows.",
        panel="Selection", choices=("each", "total", "proportional"), shown="each",
    )  # fmt: skip
    per_language: bool = option(True, "Select within each language.", panel="Selection")
    method: str = option(
        "das", "Selection method: das, random, longest, quality, car, deita or mmr.", origin="paper", panel="Selection"
    )
    n_clusters: int | None = option(
        None, "Clusters per language.", panel="Selection", low=1, shown="by the size of the pool"
    )
    max_points_per_centroid: int = option(
        64, "Maximal number of rows per cluster that k-means is trained on.", panel="Selection", low=1
    )
    fill: bool = option(False, "Top up by quality if there are too few clusters.", origin="paper", panel="Selection")
    seed: int = option(0, "Seed of clustering and of random selection.", panel="Selection", low=0)
    languages: list[str] | None = option(None, "Keep only these languages, e.g. de,ja,sw.", panel="Data")

    def check(self) -> None:
        from hf_mlalign.mdaq.selection import METHODS

        if self.budgets == "each":
            self.budgets = None
        if self.method not in METHODS:
            raise DataError(f"method: unknown {self.method!r}. Known: {listed(METHODS)}.")


@dataclass(kw_only=True)
class CurateOptions(PublishOptions, SelectionOptions, SourceOptions):
    """The options of `curate`."""

    job = "curate"

    model: Any = option(None, "Encoder for the clusters.", panel="Model", shown="bundled")
    scorer: Any = option(None, "Quality Scoring Model.", panel="Model", shown="bundled")
    engine: str = option(
        "local", "Score in this process or on Ray; the result is the same.", panel="Run", choices=("local", "ray"),
        in_record=False,
    )  # fmt: skip
    address: str | None = option(
        None, "Ray cluster, or auto.", panel="Run", in_record=False, shown="a new one for this run"
    )
    shard_rows: int = option(
        SHARD_ROWS, "Rows scored at a time; a kill loses no more.", panel="Run", low=1, in_record=False
    )
    overwrite: bool = option(
        False, "Start again if the folder holds a curation.", panel="Output", in_record=False
    )

    def check(self) -> None:
        super().check()
        if self.engine == "local" and self.address is not None:
            raise DataError("address names a Ray cluster: use it with --engine ray (engine='ray').")


@dataclass(kw_only=True)
class ScoreOptions(UploadOptions, SourceOptions):
    """The options of `score`."""

    job = "score"

    model: Any = option(None, "Quality Scoring Model.", panel="Model", flag="--model,--scorer", shown="bundled")
    encoder: Any = option(None, "Encoder of the embeddings.", panel="Model", shown="the model's")
    embeddings: bool = option(True, "Also write the instructions' vectors, for curate.", panel="Output")
    shard_rows: int = option(SHARD_ROWS, "Rows per file; a kill loses no more.", panel="Output", low=1)
    batch_size: int | None = option(None, "Texts per batch.", panel="Run", low=1, shown="the encoder's own")
    overwrite: bool = option(False, "Score again if the folder holds scores.", panel="Output", in_record=False)
    world_size: int | None = option(
        None, "Stop unless this many processes are running.", panel="Run", low=1, in_record=False
    )

    def check(self) -> None:
        if self.encoder is not None and not self.embeddings:
            raise DataError("encoder makes the embeddings, which are switched off. Drop one of the two options.")


PAPER_RATIO = (6000, 1000)
MODES = ("each", "total", "proportional")


def allocate(
    counts: Mapping[str, int],
    n_quality: int = 6000,
    n_diversity: int = 1000,
    budgets: str | Mapping[str, Any] | None = None,
) -> tuple[dict[str, tuple[int, int]], tuple[str, ...]]:
    """(n_quality, n_diversity) of each language → (shares in the order of `counts`, notes).

    Args:
        counts: rows of each language that could be selected.
        n_quality, n_diversity: 6,000 and 1,000 (*ours*, in the authors' ratio 6:1).
        budgets: one of

            None or "each": the two numbers hold for each language (*paper*).

            "total": they are totals over all languages, shared equally.

            "proportional": they are totals, shared in proportion to `counts`.

            A mapping language → rows, which is split in the ratio n_quality : n_diversity (6 : 1 if both are 0; quality
            is rounded half up), or language → (n_quality, n_diversity). It must name exactly the languages in `counts`.

    "total" and "proportional" round by largest remainder (ties go to the alphabetically first). They never give a
    language more rows than it has; what it cannot use goes to the others, so the shares add up to
    min(n_quality + n_diversity, all rows). Within a language they keep the ratio as closely as whole numbers allow. The
    result does not depend on the order of `counts`.

    notes: one sentence for each language whose pool is smaller than its budget, and one if a total cannot be reached.
    Raises DataError for a negative or fractional number, an unknown mode, missing or unknown languages.
    """
    sizes = {language: check_whole(size, f"counts[{language!r}]") for language, size in counts.items()}
    nq, nd = check_whole(n_quality, "n_quality"), check_whole(n_diversity, "n_diversity")
    if budgets in ("total", "proportional"):
        equal = budgets == "total"
        rows = share(nq + nd, {name: int(size > 0) if equal else size for name, size in sizes.items()}, sizes)
        given = sum(rows.values())
        quality = share(_round_half_up(given * nq, nq + nd), rows, rows)
        notes, fair = [], (nq + nd) // max(1, len(sizes))
        if given < nq + nd:
            notes = [f"the total is {counted(nq + nd, 'row')}, but the pool has only {given:,}: all are taken"]
        elif equal:
            notes = [
                f"{language}: {counted(size, 'row')} of an equal share of {fair:,}; the rest went to other languages"
                for language, size in sizes.items()
                if size < fair
            ]
        return {language: (quality[language], rows[language] - quality[language]) for language in sizes}, tuple(notes)
    if budgets is None or budgets == "each":
        shares = dict.fromkeys(sizes, (nq, nd))
    elif isinstance(budgets, Mapping):
        shares = _given(sizes, nq, nd, budgets)
    else:
        modes = ", ".join(f'"{mode}"' for mode in MODES)
        raise DataError(f"budgets is {budgets!r}; use None, {modes} or a mapping from language to rows")
    return shares, tuple(
        f"{language}: the budget is {counted(sum(shares[language]), 'row')}, but the pool has only {size:,}"
        for language, size in sizes.items()
        if size < sum(shares[language])
    )


def share(total: int, weights: Mapping[str, int], limits: Mapping[str, int]) -> dict[str, int]:
    """Split `total` in proportion to whole-number `weights` by largest remainder, with no share above its limit.

    What a limit cuts off is shared among the others. The shares add up to `total`, or to the sum of the limits of all
    names with a positive weight if that is less.
    """
    result = dict.fromkeys(weights, 0)
    open_names = sorted(name for name in weights if weights[name] > 0)
    left = min(total, sum(limits[name] for name in open_names))
    while open_names:
        weight = sum(weights[name] for name in open_names)
        full = [name for name in open_names if left * weights[name] >= limits[name] * weight]
        if not full:
            break
        for name in full:
            result[name] = limits[name]
        left -= sum(limits[name] for name in full)
        open_names = [name for name in open_names if name not in full]
    if open_names:
        for name in open_names:
            result[name] = left * weights[name] // weight
        rest = left - sum(result[name] for name in open_names)
        for name in sorted(open_names, key=lambda name: -(left * weights[name] % weight))[:rest]:
            result[name] += 1
    return result


def _given(sizes: dict[str, int], nq: int, nd: int, budgets: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    missing, unknown = sorted(set(sizes) - set(budgets)), sorted(set(budgets) - set(sizes), key=str)
    if missing or unknown:
        wrong = [f"has no entry for {listed(missing)}"] * bool(missing)
        wrong += [f"names {listed(unknown)}, which the data does not have"] * bool(unknown)
        raise DataError(
            f"budgets {' and '.join(wrong)}; the data has {listed(sorted(sizes))}. Name exactly these languages "
            "(0 leaves one out)"
        )
    q, d = (nq, nd) if nq + nd else PAPER_RATIO
    shares = {}
    for language in sizes:
        value, name = budgets[language], f"budgets[{language!r}]"
        if isinstance(value, (tuple, list)):
            if len(value) != 2:
                raise DataError(f"{name} is {value!r}; give one number or (n_quality, n_diversity)")
            shares[language] = (check_whole(value[0], f"{name}[0]"), check_whole(value[1], f"{name}[1]"))
        else:
            rows = check_whole(value, name)
            quality = _round_half_up(rows * q, q + d)
            shares[language] = (quality, rows - quality)
    return shares


def _round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator) if denominator else 0
