"""Scale curves for the superficial alignment hypothesis: does 1K selected beat 52K? (M-DaQ, scaling analysis)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.hub.card import front_matter
from hf_mlalign.mdaq.selector import MDaQSelector, SelectionResult

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from matplotlib.figure import Figure


SIZES = (1000, 2000, 5000, 10_000, 20_000, 52_000)
"""Rows a language (*ours*; 1K and 52K: *paper*)."""
RATIO = 6
"""Rows by quality for one row by diversity (*paper*: 6,000 + 1,000)."""


@dataclass
class NestedSubsets:
    """Subsets of one pool: `rows[method][size]` are row numbers, int64, ascending; each size holds the smaller ones."""

    dataset: Dataset
    languages: np.ndarray
    rows: dict[str, dict[int, np.ndarray]]
    results: dict[str, dict[int, SelectionResult]]

    def counts(self) -> pd.DataFrame:
        """One row per method, language and size asked for, with the number of rows there really are."""
        import pandas as pd

        records = [
            {
                "method": method,
                "language": language,
                "size": size,
                "rows": int((self.languages[rows] == language).sum()),
            }
            for method, sizes in self.rows.items()
            for size, rows in sizes.items()
            for language in sorted(set(self.languages.tolist()) - {""})
        ]
        return pd.DataFrame(records)

    def save(self, folder: str | Path) -> Path:
        """Write all subsets as one dataset of which each row is stored once a method.

        `load_dataset(folder, "das-1000")` gives a subset, `load_dataset(folder, "das-1000-de")` one language of it.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"folder: {str(folder)!r} is not empty. Name a new one.")
        configs: list[dict[str, Any]] = []
        for method, sizes in self.rows.items():
            files: dict[str, list[str]] = {}
            done = np.empty(0, dtype=np.int64)
            for size, rows in sizes.items():
                self._write_parts(folder, method, size, np.setdiff1d(rows, done), files)
                done = rows
                configs.append(
                    {"config_name": f"{method}-{size}", "data_files": sorted(chain.from_iterable(files.values()))}
                )
                if len(files) > 1:
                    configs += [{"config_name": f"{method}-{size}-{code}", "data_files": list(parts)}
                                for code, parts in sorted(files.items())]  # fmt: skip
        self._write_card(folder, configs)
        return folder

    def _write_parts(self, folder: Path, method: str, size: int, rows: np.ndarray, files: dict[str, list[str]]) -> None:
        for language in sorted(set(self.languages[rows].tolist())):
            part = rows[self.languages[rows] == language]
            path = folder / method / language / f"up-to-{size:07d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.dataset.select(part).to_parquet(str(path))
            files.setdefault(language, []).append(str(path.relative_to(folder)))

    def _write_card(self, folder: Path, configs: list[dict[str, Any]]) -> None:
        from hf_mlalign.hub.card import data_configs

        (folder / "README.md").write_text(scaling_card(data_configs(folder, configs), self.counts()), encoding="utf-8")


def nested_subsets(
    ds: Dataset,
    sizes: Sequence[int] = SIZES,
    methods: Sequence[str] = ("das", "quality", "random", "longest"),
    **selector_options: Any,
) -> NestedSubsets:
    """Nested training subsets (1K ⊂ 2K ⊂ …) of one pool, per method and language.

    A subset of size s takes ⌈6s/7⌉ rows by quality and the rest by diversity (*paper*'s ratio), in each language, on
    one scoring and one clustering of the pool. Where a language has fewer rows than s, all of them are taken.

    Args:
        ds: the pool, see `MDaQSelector.fit`.
        sizes: rows a language.
        methods: names of selection methods.
        **selector_options: of `MDaQSelector`, e.g. `seed`, `model`, `column_mapping`, `languages`.
    Raises:
        DataError: sizes are not positive whole numbers, or a method's subsets would not be nested.
    """
    sizes = sorted(set(sizes))
    if not sizes or any(not isinstance(s, (int, np.integer)) or s < 1 for s in sizes):
        raise DataError(f"sizes: expected positive whole numbers, got {listed(sizes)}.")
    largest = split_size(sizes[-1])
    arrays = MDaQSelector(*largest, method="longest", **selector_options).prepare(ds)  # needs lengths, hence all
    arrays["clusters"] = _one_clustering(arrays, largest, selector_options)
    results: dict[str, dict[int, SelectionResult]] = {}
    for method in methods:
        for size in sizes:
            selector = MDaQSelector(*split_size(size), method=method, **{**selector_options, "fill": True})
            results.setdefault(method, {})[size] = selector.select_from(**arrays)
    rows = {method: {size: r.selected for size, r in by_size.items()} for method, by_size in results.items()}
    for method, by_size in rows.items():
        for small, large in pairwise(sizes):
            if np.setdiff1d(by_size[small], by_size[large]).size:
                raise DataError(f"methods: {method!r} does not give nested subsets ({small} is not within {large}).")
    return NestedSubsets(ds, arrays["languages"], rows, results)


def split_size(size: int) -> tuple[int, int]:
    """(n_quality, n_diversity) of a subset of `size` rows in the paper's ratio 6:1."""
    return size - size // (RATIO + 1), size // (RATIO + 1)


def _one_clustering(arrays: dict, largest: tuple[int, int], options: Mapping[str, Any]) -> np.ndarray:
    if arrays["clusters"] is not None:
        return arrays["clusters"]
    return MDaQSelector(*largest, method="das", **options).select_from(**arrays).clusters


RESULT_COLUMNS = ("method", "language", "size", "win_rate")


@dataclass
class ScaleCurve:
    """Win rate against training-set size.

    Attributes:
        table: one row per method, language ("macro" is their unweighted mean) and size: win_rate in per cent and, where
            given, its standard_error.
    """

    table: pd.DataFrame

    def smallest_winner(self, than: int, method: str = "das") -> pd.DataFrame:
        """Per language: the smallest size whose win rate is at least that of size `than`, and both rates.

        "Does 1K beat 52K?" is `curve.smallest_winner(than=52_000)`.
        """
        import pandas as pd

        part = self.table[self.table["method"] == method]
        records = []
        for language, group in part.groupby("language", sort=True):
            by_size = group.set_index("size")["win_rate"].sort_index()
            if than not in by_size.index:
                continue
            winners = by_size[by_size >= by_size[than]]
            records.append({"language": language, "size": int(winners.index[0]), "win_rate": float(winners.iloc[0]),
                            f"win_rate_at_{than}": float(by_size[than])})  # fmt: skip
        return pd.DataFrame(records)

    def plot(self, method: str = "das") -> Figure:
        """The paper's figure: win rate (per cent) against size (log axis), one line a language, macro average bold."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        part = self.table[self.table["method"] == method]
        for language, group in part.groupby("language", sort=True):
            group = group.sort_values("size")
            macro = language == "macro"
            style = {"color": "black", "linewidth": 2.5} if macro else {"linewidth": 1.2, "alpha": 0.8}
            errors = group.get("standard_error")
            axes.errorbar(
                group["size"], group["win_rate"], yerr=errors, label=language, marker="o", markersize=3, **style
            )
        axes.axhline(50, color="grey", linestyle="--", linewidth=1)
        axes.set_xscale("log")
        ticks = sorted(part["size"].unique())
        axes.set_xticks(ticks, [f"{t // 1000}K" if t >= 1000 and t % 1000 == 0 else str(t) for t in ticks])
        axes.minorticks_off()
        axes.set(xlabel="training pairs a language", ylabel="win rate, %", title=f"Selected by {method}")
        axes.legend(ncols=2, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return figure

    def save(self, folder: str | Path) -> list[Path]:
        """Write the table (`scale_curve.csv`) and one picture a method (`scale_curve_<method>.png`)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "scale_curve.csv"]
        self.table.to_csv(paths[0], index=False)
        for method in self.table["method"].unique():
            paths.append(folder / f"scale_curve_{method}.png")
            self.plot(method).savefig(paths[-1], dpi=150)
        return paths


def scale_curve(results: pd.DataFrame | Iterable[Mapping[str, Any]]) -> ScaleCurve:
    """The paper's curve from the results of training runs on nested subsets.

    Args:
        results: one record a run and language: method, language, size, win_rate in per cent [0, 100] (as
            `hf_mlalign/winrate` returns it) and optionally standard_error.
    Raises:
        DataError: a column is missing, a rate is outside [0, 100], or a run is given twice (the record is named).
    """
    import pandas as pd

    table = pd.DataFrame(results if isinstance(results, pd.DataFrame) else list(results))
    missing = [c for c in RESULT_COLUMNS if c not in table.columns]
    if missing:
        raise DataError(f"results: columns {listed(missing)} are missing. Columns found: {listed(table.columns)}.")
    bad = np.flatnonzero(~table["win_rate"].between(0, 100).to_numpy())
    if len(bad):
        raise DataError(
            f"results: column 'win_rate', record {bad[0]}: {table['win_rate'].iloc[bad[0]]} is no per cent."
        )
    twice = np.flatnonzero(table.duplicated(["method", "language", "size"]).to_numpy())
    if len(twice):
        raise DataError(f"results: record {twice[0]} repeats a method, language and size. Average repeated runs first.")
    table = table[table["language"] != "macro"]
    languages = table.groupby(["method", "size"])["language"].transform("nunique")
    complete = languages == table.groupby("method")["language"].transform("nunique")
    macro = (
        table[complete].groupby(["method", "size"], as_index=False)["win_rate"].mean()
    )
    keep = [c for c in (*RESULT_COLUMNS, "standard_error") if c in table.columns]
    merged = pd.concat([table[keep], macro.assign(language="macro")], ignore_index=True)
    return ScaleCurve(merged.sort_values(["method", "language", "size"], ignore_index=True))


def scaling_card(configs: list[dict[str, Any]], counts: pd.DataFrame) -> str:
    """README.md of a set of nested subsets: its configurations and how many rows each has."""
    languages = [c for c in sorted(counts["language"].unique()) if c != "all"]
    metadata = {"language": languages, "tags": ["hf_mlalign", "m-daq"], "configs": configs}
    metadata = {key: value for key, value in metadata.items() if value}
    pivot = counts.pivot_table(index=["method", "size"], columns="language", values="rows", aggfunc="sum")
    heads = ["method", "size", *pivot.columns]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for index, row in zip(pivot.index, pivot.to_numpy()):
        lines.append("| " + " | ".join(map(str, (*index, *row))) + " |")
    table = "\n".join(lines)
    return (
        f"{front_matter(metadata)}\n# Nested subsets for a scale curve\n\n"
        "Configuration `<method>-<size>` is the subset of that size a language; each holds all smaller ones of its\n"
        "method. `<method>-<size>-<language>` is one language of it. Train one model on each, judge them, pass the\n"
        f"win rates to `hf_mlalign.mdaq.scaling.scale_curve`.\n\n{table}\n"
    )
