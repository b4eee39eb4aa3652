"""From a named source to a running annotation page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.languages import check_languages
from hf_mlalign.data.sources import load_source
from hf_mlalign.evaluation.annotation.app import LOOPBACK, serve
from hf_mlalign.evaluation.annotation.items import Item, digest, read_pairs
from hf_mlalign.evaluation.annotation.store import JudgementStore
from hf_mlalign.evaluation.annotation.study import Study


def annotate(
    source: str | Path,
    output: str | Path,
    *,
    split: str | None = None,
    config: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    language: str | None = None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    per_item: int = 1,
    overlap: float = 0.2,
    points: bool = True,
    seed: int = 0,
    host: str = LOOPBACK,
    port: int | None = None,
    open_browser: bool = False,
    on_step: Callable[[str], None] = print,
) -> None:
    """Check the pairs, open the folder of judgements and serve the page until interrupted.

    Args:
        source, split, config: as `sources.load_source`.
        output: folder of the judgements; with the same pairs and seed, readers go on where they were.
        column_mapping, language: as `human_items.read_pairs`.
        languages: keep items of these.
        limit: only the first so many items a language.
        per_item, overlap, points, seed: as `human_study.Study`; all but the seed may change between runs.
        host, port, open_browser: as `annotation.app.serve`.
        on_step: called with a line of progress.
    Raises:
        DataError: the pairs cannot be used (row named), the folder holds another study, the port is taken.
    """
    items = choose(read_pairs(load_source(source, split, config), column_mapping, language), languages, limit)
    study_of = {"pairs": digest(*sorted(item.key for item in items)), "n_items": len(items), "seed": seed}
    with JudgementStore(output, study_of).open() as store:
        study = Study(items, store, seed=seed, per_item=per_item, overlap=overlap, points=points)
        counts = ", ".join(f"{code} {n:,}" for code, n in study.languages.items())
        on_step(f"{len(items):,} items ({counts}); {len(store.latest):,} judgements so far in {output}.")
        if host != LOOPBACK:
            on_step(
                f"Listening on {host}: whoever reaches this address can judge under any name. There are no passwords."
            )
        serve(study, host=host, port=port, open_browser=open_browser,
              on_start=lambda address: on_step(f"Judge at {address} (Ctrl-C to stop)."))  # fmt: skip


def choose(items: Sequence[Item], languages: Sequence[str] | None, limit: int | None) -> list[Item]:
    """The items of `languages` (all by default), at most the first `limit` of each.

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
