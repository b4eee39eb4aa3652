"""From a model, an adapter and a table of parallel prompts to a folder of lenses: data and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.languages import known_code
from hf_mlalign.hub.run_record import Run, describe_source
from hf_mlalign.models.loading import load_causal_lm
from hf_mlalign.spontaneous.lens import plots as lens_plots
from hf_mlalign.spontaneous.lens.geometry import Pooling, pca
from hf_mlalign.spontaneous.lens.geometry_result import MEASURES, Geometry
from hf_mlalign.spontaneous.lens.logit_lens import logit_lens
from hf_mlalign.spontaneous.lens.parallel_prompts import ParallelPrompts, read_parallel
from hf_mlalign.spontaneous.lens.result import LensResult
from hf_mlalign.spontaneous.lens.targets import Span

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset


@dataclass(frozen=True)
class Lenses:
    """What was found: results before and after (None without an adapter), the folder and the notes."""

    lens_before: LensResult | None
    lens_after: LensResult | None
    geometry_before: Geometry
    geometry_after: Geometry | None
    folder: Path
    notes: list[str]

    def summary(self) -> pd.DataFrame:
        """One row a language: P(own) and P(English) at the last layer, the highest P(English) of any layer, and the
        mean over the blocks of distance and retrieval; before, and after with `_after`."""
        tables = [_summary(self.lens_before, self.geometry_before)]
        if self.geometry_after is not None:
            tables.append(_summary(self.lens_after, self.geometry_after).add_suffix("_after"))
        return tables[0].join(tables[1:])


def lens_before_and_after(
    model: str | Path,
    source: str | Path | Dataset,
    output: str | Path,
    *,
    adapter: str | Path | None = None,
    split: str | None = None,
    config: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    english: str = "en",
    span: Span = "first",
    pooling: Pooling = "mean",
    batch_size: int = 8,
    max_length: int | None = None,
    device: str | None = None,
    dtype: str = "auto",
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda sentence: None,
) -> Lenses:
    """Logit lens and geometry of a model with its adapter switched off and on, saved as data and pictures.

    The model is loaded once. Of the four parts (two lenses, before and after) those that are finished are kept: after
    an interruption the same call begins the part it was in anew. The scatter plots after use the axes of before.

    Args:
        model: folder or Hub name of a causal LM.
        source: table with the columns id, language, prompt and answer, see `read_parallel`; without answers there is
            only the geometry.
        output: folder to write: lens_*.npz, geometry_*.npz, lens.parquet, geometry.parquet, summary.csv, pictures
            (PNG) each with its data (CSV), run.json.
        adapter: PEFT adapter; without one only the model itself is looked at.
        split, config: which part of the source.
        column_mapping, languages, limit, english: see `read_parallel`.
        span, batch_size: see `logit_lens`.
        pooling, max_length: see `pca`.
        device: "cpu", "cuda", …; default: the best there is.
        dtype: of the weights; default "auto": as saved.
        overwrite: begin anew where the folder holds a run with other parameters.
        on_step: called with a sentence at each step.
    Raises:
        DataError: bad input; the output holds something else or a run with other parameters.
    """
    from hf_mlalign.data.sources import load_source

    english = known_code(english, "english")
    for name, value, known in (("span", span, get_args(Span)), ("pooling", pooling, get_args(Pooling))):
        if value not in known:
            raise DataError(f"{name}: {value!r} is not known. Use {listed(known)}.")
    options = {
        "model": describe_source(model), "adapter": None if adapter is None else describe_source(adapter),
        "dtype": dtype,
        "column_mapping": column_mapping, "languages": languages, "limit": limit, "english": english, "span": span,
        "pooling": pooling, "max_length": max_length,
    }  # fmt: skip
    nothing_yet = not any(Path(output).glob("*_before.npz"))
    run = Run(
        output, "lens", options, describe_source(source, split=split, config=config), overwrite=overwrite or nothing_yet
    )
    ds = load_source(source, split, config) if isinstance(source, (str, Path)) else source
    table = read_parallel(ds, column_mapping, languages, limit, english)
    count = f"{len(table.prompts):,} prompts in {len(set(table.languages))} languages"
    with run.open():
        if run.found is None:
            for old in run.folder.glob("*_*.npz"):
                old.unlink()
        on_step(f"Read {count}{'' if table.answers else '; no answers: geometry only'}.")
        work = _Looking(run, table, english, span, pooling, batch_size, max_length, on_step)
        found = work.look(lambda: load_causal_lm(model, adapter, dtype, device), adapter is not None)
        on_step("Drawing …")
        _save(found, table)
        run.finish({"per_language": found.summary().reset_index().to_dict("records")}, found.notes)
    return found


@dataclass
class _Looking:
    run: Run
    table: ParallelPrompts
    english: str
    span: Span
    pooling: Pooling
    batch_size: int
    max_length: int | None
    on_step: Callable[[str], None]

    def look(self, load: Callable, adapted: bool) -> Lenses:
        loaded: list = []
        results: dict[str, Any] = {"lens_after": None, "geometry_after": None, "lens_before": None}
        for when in ("before", "after") if adapted else ("before",):
            if self.table.answers:
                results[f"lens_{when}"] = self._part(LensResult, "lens", when, load, loaded, self._lens)
            axes = results.get("geometry_before") if when == "after" else None
            results[f"geometry_{when}"] = self._part(
                Geometry, "geometry", when, load, loaded, lambda *given, axes=axes: self._pca(*given, axes=axes)
            )
        notes = [f"{self.table.without_english} prompts have no English answer"] if self.table.without_english else []
        notes += results["lens_before"].notes if results["lens_before"] is not None else []
        return Lenses(**results, folder=self.run.folder, notes=notes)

    def _part(self, kind, name: str, when: str, load: Callable, loaded: list, compute: Callable):
        path = self.run.folder / f"{name}_{when}.npz"
        if path.is_file():
            self.on_step(f"{path.name} is there already.")
            return kind.load(path)
        if not loaded:
            loaded.extend(load())
        with _switched(loaded[0], when):
            result = self.run.timed(f"{name}_{when}", compute, *loaded)
        result.save(path)
        return result

    def _lens(self, model, tokenizer) -> LensResult:
        table = self.table
        return logit_lens(model, tokenizer, table.prompts, table.answers, table.languages, english=self.english,
                          span=self.span, batch_size=self.batch_size)  # fmt: skip

    def _pca(self, model, tokenizer, axes: Geometry | None) -> Geometry:
        table, store = self.table, self.run.folder / ".states.npy"
        try:
            return pca(
                model, tokenizer, table.prompts, table.languages, table.ids, english=self.english, axes=axes,
                pooling=self.pooling, batch_size=self.batch_size, max_length=self.max_length, store=store,
            )  # fmt: skip
        finally:
            store.unlink(missing_ok=True)


@contextmanager
def _switched(model, when: str) -> Iterator[None]:
    """The adapter off for "before", on for "after"."""
    if when == "before" and hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            yield
    else:
        yield


def _save(found: Lenses, table: ParallelPrompts) -> None:
    import pandas as pd

    folder = found.folder
    found.summary().to_csv(folder / "summary.csv")
    lenses = [("before", found.lens_before), ("after", found.lens_after)]
    frames = [r.to_pandas().assign(when=when) for when, r in lenses if r is not None]
    if frames:
        whole = pd.concat(frames, ignore_index=True)
        whole.insert(0, "id", pd.Series(table.ids).iloc[whole["row"]].to_numpy())
        whole.to_parquet(folder / "lens.parquet", index=False)
        for value in ("own", "english"):
            lens_plots.heatmap(found.lens_before, found.lens_after, value).save(folder / f"lens_{value}")
        lens_plots.curves(found.lens_before, found.lens_after).save(folder / "lens_curves")
    shapes = [("before", found.geometry_before), ("after", found.geometry_after)]
    frames = [r.per_language().assign(when=when) for when, r in shapes if r is not None]
    pd.concat(frames, ignore_index=True).to_parquet(folder / "geometry.parquet", index=False)
    for value in MEASURES:
        lens_plots.heatmap(found.geometry_before, found.geometry_after, value).save(folder / f"geometry_{value}")
    lens_plots.scatter(found.geometry_before, found.geometry_after).save(folder / "geometry_scatter")


def _summary(lens: LensResult | None, geometry: Geometry) -> pd.DataFrame:
    table = geometry.per_language()
    measures = ["distance_in_spreads", "to_english", "from_english"]
    found = table[table["layer"] > 0].groupby("language", sort=False)[measures].mean()
    if lens is None:
        return found
    by_layer = lens.per_language().set_index("language")
    last = by_layer[by_layer["layer"] == lens.n_layers - 1]
    found.insert(0, "own_last", last["own"])
    found.insert(1, "english_last", last["english"])
    found.insert(2, "english_highest", by_layer.groupby(level=0)["english"].max())
    return found
