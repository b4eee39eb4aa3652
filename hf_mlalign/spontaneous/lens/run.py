"""From a model, an adapter and a table of parallel prompts to a folder of lenses: data and pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.options import takes
from hf_mlalign.data.languages import known_code
from hf_mlalign.data.sources import load_source
from hf_mlalign.hub.run_record import Run, RunResult, describe_source
from hf_mlalign.models.loading import load_causal_lm
from hf_mlalign.spontaneous.lens import plots
from hf_mlalign.spontaneous.lens.answers import logit_lens
from hf_mlalign.spontaneous.lens.distances import pca
from hf_mlalign.spontaneous.lens.parallel_prompts import ParallelPrompts, read_parallel
from hf_mlalign.spontaneous.lens.result import MEASURES, Geometry, LensResult
from hf_mlalign.spontaneous.options import LensOptions

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset


@dataclass(frozen=True)
class Lenses:
    """What was found: results before and after the adapter (`None` without one, or without answers), and notes."""

    lens_before: LensResult | None
    lens_after: LensResult | None
    geometry_before: Geometry
    geometry_after: Geometry | None
    notes: list[str]

    def per_language(self) -> pd.DataFrame:
        """One row per language: language, P(own) and P(English) at the last layer, the highest P(English) of any layer,
        and the mean over the blocks of distance and retrieval; before, and after with `_after`."""
        table = _summary(self.lens_before, self.geometry_before)
        if self.geometry_after is not None:
            table = table.join(_summary(self.lens_after, self.geometry_after).add_suffix("_after"))
        return table.reset_index()


@takes(LensOptions)
def run_lens(
    source: str | Path | Dataset,
    output: str | Path = "lens",
    *,
    on_step: Callable[[str], None] = lambda sentence: None,
    options: LensOptions,
) -> RunResult:
    """Logit lens and geometry of a model with its adapter switched off and on, saved as data and pictures.

    The model is loaded once. Of the four parts (two lenses, before and after) those that are finished are kept: after
    an interruption the same call repeats only the part it was in. The scatter plots after use the axes of before.

    Args:
        source: table with the columns id, language, prompt and answer, see `read_parallel`; without answers there is
            only the geometry.
        output: folder to write: lens_*.npz, geometry_*.npz, lens.parquet, geometry.parquet, summary.csv, pictures
            (PNG) each with its data (CSV), run.json.
        on_step: called with a sentence at each step.
    Returns:
        `result` is a `Lenses`; there is no dataset.
    Raises:
        DataError: bad input; the output holds something else or a run with other parameters.
    """
    import pandas as pd

    if not options.model:
        raise DataError("model: name a causal LM, a local folder or a Hub model (user/name).")
    options = replace(options, english=known_code(options.english, "english"))
    adapter = None if options.adapter is None else describe_source(options.adapter)
    parameters = options.parameters() | {"model": describe_source(options.model), "adapter": adapter}
    which = describe_source(source, split=options.split, config=options.config_name)
    nothing_yet = not any(Path(output).glob("*_before.npz"))
    run = Run(output, "lens", parameters, which, overwrite=options.overwrite or nothing_yet)
    fresh = not run.is_finished
    ds = load_source(source, options.split, options.config_name)
    table = read_parallel(ds, options.column_mapping, options.languages, options.limit, options.english)
    count = f"{len(table.prompts):,} prompts in {len(set(table.languages))} languages"
    with run.open():
        if run.found is None:
            for old in run.folder.glob("*_*.npz"):
                old.unlink()
        on_step(f"Read {count}{'' if table.answers else '; no answers: geometry only'}.")
        found = _look(run, table, options, on_step)
        on_step("Drawing …")
        folder = run.folder
        found.per_language().to_csv(folder / "summary.csv", index=False)
        lenses = [("before", found.lens_before), ("after", found.lens_after)]
        frames = [r.to_pandas().assign(when=when) for when, r in lenses if r is not None]
        if frames:
            whole = pd.concat(frames, ignore_index=True)
            whole.insert(0, "id", pd.Series(table.ids).iloc[whole["row"]].to_numpy())
            whole.to_parquet(folder / "lens.parquet", index=False)
            for value in ("own", "english"):
                plots.heatmap(found.lens_before, found.lens_after, value).save(folder / f"lens_{value}")
            plots.curves(found.lens_before, found.lens_after).save(folder / "lens_curves")
        shapes = [("before", found.geometry_before), ("after", found.geometry_after)]
        frames = [r.per_language().assign(when=when) for when, r in shapes if r is not None]
        pd.concat(frames, ignore_index=True).to_parquet(folder / "geometry.parquet", index=False)
        for value in MEASURES:
            plots.heatmap(found.geometry_before, found.geometry_after, value).save(folder / f"geometry_{value}")
        plots.scatter(found.geometry_before, found.geometry_after).save(folder / "geometry_scatter")
        run.finish({"per_language": found.per_language().to_dict("records")}, found.notes)
    return RunResult(None, run.folder, run.record, found, fresh)


def _look(run: Run, table: ParallelPrompts, options: LensOptions, on_step: Callable[[str], None]) -> Lenses:
    """Compute the parts that are not in the folder yet, and load the others."""
    loaded: list[Any] = []
    results: dict[str, Any] = dict.fromkeys(("lens_before", "lens_after", "geometry_before", "geometry_after"))
    store = run.folder / ".states.npy"

    def lens(model, tokenizer) -> LensResult:
        return logit_lens(model, tokenizer, table.prompts, table.answers, table.languages, english=options.english,
                          span=options.span, batch_size=options.batch_size)  # fmt: skip

    def geometry(model, tokenizer) -> Geometry:
        try:
            return pca(
                model, tokenizer, table.prompts, table.languages, table.ids, english=options.english,
                axes=results["geometry_before"], pooling=options.pooling, batch_size=options.batch_size,
                max_length=options.max_length, store=store,
            )  # fmt: skip
        finally:
            store.unlink(missing_ok=True)

    jobs = {"lens": (LensResult, lens), "geometry": (Geometry, geometry)}
    for when in ("before", "after") if options.adapter is not None else ("before",):
        for name, (kind, compute) in jobs.items():
            if name == "lens" and not table.answers:
                continue
            path = run.folder / f"{name}_{when}.npz"
            if path.is_file():
                on_step(f"{path.name} is already finished.")
                results[f"{name}_{when}"] = kind.load(path)
                continue
            if not loaded:
                loaded += load_causal_lm(options.model, options.adapter, options.dtype, options.device)
            switched_off = when == "before" and hasattr(loaded[0], "disable_adapter")
            with loaded[0].disable_adapter() if switched_off else nullcontext():
                results[f"{name}_{when}"] = run.timed(f"{name}_{when}", compute, *loaded)
            results[f"{name}_{when}"].save(path)
    notes = [f"{table.without_english:,} prompts have no English answer"] if table.without_english else []
    notes += results["lens_before"].notes if results["lens_before"] is not None else []
    return Lenses(**results, notes=notes)


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
