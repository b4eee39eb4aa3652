"""From a named source to a running annotation page, and from its folder to tables."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import takes
from hf_mlalign.data.languages import check_languages
from hf_mlalign.data.sources import load_source
from hf_mlalign.evaluation.annotation.app import LOOPBACK, serve
from hf_mlalign.evaluation.annotation.items import PairItem, digest, read_items
from hf_mlalign.evaluation.annotation.store import JudgementStore
from hf_mlalign.evaluation.annotation.study import Study
from hf_mlalign.evaluation.options import AnnotateOptions
from hf_mlalign.hub.run_record import RunRecord, RunResult, describe_source, to_json


@takes(AnnotateOptions)
def annotate(
    source: str | Path,
    output: str | Path = "judgements",
    *,
    options: AnnotateOptions,
    on_step: Callable[[str], None] = print,
    stop: threading.Event | None = None,
) -> RunResult:
    """Check the pairs, open the folder of judgements and serve the page until interrupted (`hf-mlalign annotate`).

    Args:
        source: see `hf_mlalign.data.sources.load_source`.
        output: folder of the judgements. With the same pairs and seed, readers continue where they stopped; all other
            options may change between runs.
        on_step: called with a line of progress.
        stop: ends the server when set.
    Returns:
        Once the server has stopped, a `RunResult` whose `result` lists the last `Judgement` of every item and reader;
        `HumanJudge(output)` evaluates them.
    Raises:
        DataError: the pairs cannot be used (row named), the folder holds another study, the port is taken.
    """
    ds = load_source(source, options.split, options.config_name)
    items = choose_items(read_items(ds, options.column_mapping, options.language), options.languages, options.limit)
    study_of = {"pairs": digest(*sorted(item.key for item in items)), "n_items": len(items), "seed": options.seed}
    which = describe_source(source, split=options.split, config=options.config_name)
    record = RunRecord(command="annotate", parameters=to_json(options.parameters()), source=to_json(which))
    with JudgementStore(output, study_of).open() as store:
        study = Study(items, store, seed=options.seed, per_item=options.per_item, overlap=options.overlap,
                      points=options.points)  # fmt: skip
        counts = ", ".join(f"{code} {n:,}" for code, n in study.languages.items())
        on_step(f"{len(items):,} items ({counts}); {len(store.latest):,} judgements so far in {output}.")
        if options.host != LOOPBACK:
            on_step(f"Listening on {options.host}: whoever reaches this address can judge under any name. "
                    "There are no passwords.")  # fmt: skip
        serve(study, host=options.host, port=options.port, open_browser=options.open_browser, stop=stop,
              on_start=lambda address: on_step(f"Judge at {address} (Ctrl-C to stop)."))  # fmt: skip
        return RunResult(None, Path(output), record, list(store.latest.values()))


def choose_items(items: Sequence[PairItem], languages: Sequence[str] | None, limit: int | None) -> list[PairItem]:
    """The items of `languages` (all by default), at most `limit` of each, from the first on.

    Raises:
        DataError: an unknown language, or none of the items is in these languages.
    """
    wanted = set(check_languages(languages)) if languages else {item.language for item in items}
    taken: Counter[str] = Counter()
    kept = []
    for item in items:
        if item.language in wanted and (limit is None or taken[item.language] < limit):
            taken[item.language] += 1
            kept.append(item)
    missing = wanted - taken.keys()
    if missing:
        found = listed(sorted({item.language for item in items}))
        raise DataError(f"languages: no pairs in {listed(sorted(missing))}. Languages found: {found}.")
    return kept
