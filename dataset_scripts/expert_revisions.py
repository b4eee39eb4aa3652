"""Expert revisions: Alpaca samples before and after revision, in English (CoachLM) and in translation (MIDB).

    git clone https://github.com/zhaocorey/MIDB
    git clone https://github.com/lunyiliu/CoachLM
    python dataset_scripts/expert_revisions.py --source MIDB --english-source CoachLM --output expert_revisions

Layout, of both: a JSON array of {"Raw Instruction", "Raw Input", "Raw Response", "Revised Instruction",
"Revised Input", "Revised Response", "Distance"}; MIDB in `data/MIDB_train/<Language>.json`, CoachLM in
`Expert Revision Dataset.json` or its copy `.ipynb_checkpoints/Expert Revision Dataset-checkpoint.json`.

Files in some languages lack a sample, and there are no ids. "Distance" is the edit distance of the English revision in
every language, so the sequence of distances tells which sample a row is.
"""

import sys
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from datasets import Features, Value

from hf_mlalign.core.errors import DataError
from shared.building import main
from shared.public_files import Record, read_json
from shared.recipes import BuildArguments, Origin, Part, Recipe, places

ENGLISH = ("Expert Revision Dataset.json", ".ipynb_checkpoints/Expert Revision Dataset-checkpoint.json")
LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "de": "German", "el": "Greek", "es": "Spanish", "fr": "French", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "ms": "Malay", "pt": "Portuguese", "ru": "Russian", "th": "Thai",
    "tr": "Turkish", "vi": "Vietnamese",
}  # fmt: skip
TEXTS = {
    f"{state}_{name}": f"{state.title()} {name.title()}"
    for state in ("raw", "revised") for name in ("instruction", "input", "response")
}  # fmt: skip
LEAST_MATCH = 0.9
"""Least share of a file's rows whose sample must be found (*ours*)."""


@dataclass
class Arguments(BuildArguments):
    """Also: a second source."""

    english_source: str | None = field(default=None, metadata={"help": "The same of CoachLM, for the English rows."})


def row(record: Record) -> dict:
    """An object of the JSON array as a row; `arrange` turns its position into the sample's id."""
    texts = {name: record.text(key, blank=True) for name, key in TEXTS.items()}
    return {"id": record.number, **texts, "distance": record.whole("Distance")}


def arrange(tables: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Give every row the position of its sample in the English (else the longest) file; leave out rows without one.

    Raises:
        DataError: a file whose distances are those of another set.
    """
    reference = tables.get("en") or max(tables.values(), key=len)
    known = [row["distance"] for row in reference]
    done = {}
    for code, rows in tables.items():
        own = [row["distance"] for row in rows]
        blocks = [(0, 0, len(own))] if own == known else SequenceMatcher(None, known, own, False).get_matching_blocks()
        done[code] = [{**rows[at + k], "id": first + k} for first, at, count in blocks for k in range(count)]
        if len(done[code]) < LEAST_MATCH * len(rows):
            raise DataError(
                f"{LANGUAGES.get(code, 'English')}: the distances of only {len(done[code]):,} of {len(rows):,} rows "
                f"follow those of the reference: it holds other samples. Leave {code!r} out with --languages."
            )
    return done


def recipe(arguments: Arguments) -> Recipe:
    """Build the expert revisions of CoachLM and MIDB."""
    what = {"raw": "before", "revised": "after"}
    columns = {"id": "the same sample in every language", "language": "ISO 639-1 code"}
    columns |= {name: f"{name.split('_')[1]} {what[name.split('_')[0]]} revision" for name in TEXTS}
    columns["distance"] = "edit distance of the English revision, in characters"
    types = {"id": "int64", "distance": "int32"}
    return Recipe(
        name="expert_revisions",
        title="Expert revisions",
        summary="Alpaca samples before and after revision by experts (CoachLM), and their translations (MIDB): what "
        "M-DaQ trains its Quality Scoring Model on (revised response: positive, raw response: negative).",
        features=Features({name: Value(types.get(name, "string")) for name in columns}),
        columns=columns,
        parts=[
            Part({"en": ENGLISH}, read_json, row, source="english_source"),
            Part(places("data/MIDB_train/{}.json", LANGUAGES), read_json, row),
        ],
        origins=[
            Origin("CoachLM", "https://github.com/lunyiliu/CoachLM", "the Expert Revision Dataset.",
                   "Apache-2.0 by what others say of it; no licence file was seen in the repository."),
            Origin("MIDB", "https://github.com/zhaocorey/MIDB", "`data/MIDB_train/`.", "Apache-2.0."),
            Origin("Alpaca", "where CoachLM's samples are from", "nothing itself.",
                   "CC BY-NC 4.0, which holds for all rows."),
        ],
        licence="cc-by-nc-4.0",
        arrange=arrange,
        reference="en",
        limits=[
            "The translations are machine-made, and revised in part.",
            "A few instructions and responses are blank in the source; they are kept.",
        ],
        tags=["instruction-tuning", "quality"],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(recipe, Arguments))
