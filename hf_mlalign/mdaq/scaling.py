"""Scale curves for the superficial alignment hypothesis: does 1K selected beat 52K? (M-DaQ, scaling analysis)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.hub.card import markdown_table, write_card
from hf_mlalign.hub.run_record import RunRecord, describe_source, model_name, to_json
from hf_mlalign.mdaq.selector import ALL, MDaQSelector, SelectionResult

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from matplotlib.figure import Figure


SIZES = (1000, 2000, 5000, 10_000, 20_000, 52_000)
"""Rows per language (*ours*; 1K and 52K: *paper*)."""
RATIO = 6
"""Rows selected by quality for each row selected by diversity (the ratio that the authors give)."""


@dataclass
class NestedSubsets:
    """Subsets of one pool: `rows[method][size]` are row numbers, int64, ascending; each size contains the smaller ones.

    `results` are the selections they come from, `record` the options and the source.
    """

    dataset: Dataset
    languages: np.ndarray
    rows: dict[str, dict[int, np.ndarray]]
    results: dict[str, dict[int, SelectionResult]]
    record: RunRecord

    def counts(self) -> pd.DataFrame:
        """One row per method, language and requested size, with the actual number of rows."""
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
        """Write all subsets as one dataset in which each row is stored once per method.

        `load_dataset(folder, "das-1000")` opens a subset, `load_dataset(folder, "das-1000-de")` one language of it.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"folder: {str(folder)!r} is not empty. Name a new one.")
        configs: list[dict[str, Any]] = []
        for method, sizes in self.rows.items():
            files: dict[str, list[str]] = {}
            done = np.empty(0, dtype=np.int64)
            for size, rows in sizes.items():
                new = np.setdiff1d(rows, done)
                for language in sorted(set(self.languages[new].tolist())):
                    path = folder / method / language / f"up-to-{size:07d}.parquet"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self.dataset.select(new[self.languages[new] == language]).to_parquet(str(path))
                    files.setdefault(language, []).append(str(path.relative_to(folder)))
                done = rows
                parts = sorted(chain.from_iterable(files.values()))
                configs.append({"config_name": f"{method}-{size}", "data_files": parts})
                if len(files) > 1:
                    configs += [{"config_name": f"{method}-{size}-{code}", "data_files": list(parts)}
                                for code, parts in sorted(files.items())]  # fmt: skip
        table = self.counts().pivot_table(index=["method", "size"], columns="language", values="rows").astype(int)
        write_card(
            folder, "subsets_card.md.j2", self.record, rows=max(len(r) for by_size in self.rows.values()
            for r in by_size.values()), languages=[name for name in table.columns if name != ALL], tags=["m-daq"],
            configs=configs, metadata={"task_categories": ["text-generation"]}, first=configs[0]["config_name"],
            table=markdown_table(table.reset_index().to_dict("records"), {n: n for n in ("method", "size", *table)}),
        )  # fmt: skip
        return folder


def nested_subsets(
    ds: Dataset,
    sizes: Sequence[int] = SIZES,
    methods: Sequence[str] = ("das", "quality", "random", "longest"),
    **options: Any,
) -> NestedSubsets:
    """Nested training subsets (1K ⊂ 2K ⊂ …) of one pool, per method and language.

    In each language, a subset of size s takes ⌈6s/7⌉ rows by quality and the rest by diversity (*paper*'s ratio). The
    pool is scored and clustered once. If a language has fewer rows than s, all of them are taken.

    Args:
        ds: the pool, see `MDaQSelector.fit`.
        sizes: rows per language.
        methods: names of selection methods.
        **options: of `MDaQSelector`, e.g. `seed`, `model`, `column_mapping`, `languages`.
    Raises:
        DataError: sizes are not positive whole numbers, or a method's subsets would not be nested.
    """
    sizes = sorted(set(sizes))
    if not sizes or any(not isinstance(s, (int, np.integer)) or s < 1 for s in sizes):
        raise DataError(f"sizes: expected positive whole numbers, got {listed(sizes)}.")
    largest = split_size(sizes[-1])
    arrays = MDaQSelector(*largest, method="longest", **options).prepare(ds)  # needs lengths, hence all
    if arrays["clusters"] is None:
        arrays["clusters"] = MDaQSelector(*largest, method="das", **options).select_from(**arrays).clusters
    results: dict[str, dict[int, SelectionResult]] = {}
    for method in methods:
        for size in sizes:
            selector = MDaQSelector(*split_size(size), method=method, **{**options, "fill": True})
            results.setdefault(method, {})[size] = selector.select_from(**arrays)
    rows = {method: {size: r.selected for size, r in by_size.items()} for method, by_size in results.items()}
    for method, by_size in rows.items():
        for small, large in pairwise(sizes):
            if np.setdiff1d(by_size[small], by_size[large]).size:
                raise DataError(f"methods: {method!r} does not give nested subsets ({small} is not within {large}).")
    shown = {name: model_name(value) if name in ("model", "encoder") else value for name, value in options.items()}
    parameters = to_json({"sizes": [int(size) for size in sizes], "methods": list(methods), **shown})
    record = RunRecord(command="nested-subsets", parameters=parameters, source=describe_source(ds))
    return NestedSubsets(ds, arrays["languages"], rows, results, record)


def split_size(size: int) -> tuple[int, int]:
    """(n_quality, n_diversity) of a subset of `size` rows in the authors' ratio 6:1."""
    return size - size // (RATIO + 1), size // (RATIO + 1)


RESULT_COLUMNS = ("method", "language", "size", "win_rate")


@dataclass
class ScaleCurve:
    """Win rate against training-set size.

    Attributes:
        table: one row per method, language ("macro" is their unweighted mean) and size: win_rate in per cent and, if
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
        """The paper's figure: win rate (%) against size (log axis), one line per language, macro average bold."""
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
        axes.set(xlabel="training pairs per language", ylabel="win rate, %", title=f"Selected by {method}")
        axes.legend(ncols=2, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return figure

    def save(self, folder: str | Path) -> list[Path]:
        """Write the table (`scale_curve.csv`) and one picture per method (`scale_curve_<method>.png`)."""
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
        results: one record per run and language: method, language, size, win_rate in per cent [0, 100] (as
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
            f"results: column 'win_rate', record {bad[0]}: {table['win_rate'].iloc[bad[0]]} is not a percentage."
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
