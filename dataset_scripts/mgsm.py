"""MGSM: 250 school mathematics questions in 11 languages, with their answers.

    git clone https://github.com/google-research/url-nlp
    python dataset_scripts/mgsm.py --source url-nlp --output mgsm

Layout: `mgsm/mgsm_<language>.tsv`, no header, no quoting, one question per line: question, tab, answer. The TSV files
themselves could not be looked at when this was written; the layout is that of the programs that read them.
"""

import re
import sys

from datasets import Features, Value

from hf_mlalign.core.errors import DataError
from shared.building import main
from shared.public_files import AGAIN, PublicFile, Record, read_tsv
from shared.recipes import BuildArguments, Origin, Part, Recipe, places

LANGUAGES = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
NUMBER = re.compile(r"-?[0-9][0-9,]*(\.[0-9]+)?")


def read(file: PublicFile):
    return read_tsv(file, ("question", "answer"))


def row(record: Record) -> dict:
    """A line of the TSV file as a row."""
    answer = record.text("answer").strip()
    if not NUMBER.fullmatch(answer):
        raise DataError(f"{record.place}: the answer {answer!r} is not a number. {AGAIN}")
    return {"id": record.number, "query": record.text("question"), "response": answer}


def recipe(arguments: BuildArguments) -> Recipe:
    """Build MGSM from its TSV files."""
    return Recipe(
        name="mgsm",
        title="MGSM",
        summary="School mathematics questions of GSM8K, translated by people into ten languages (arXiv 2210.03057).",
        features=Features(
            {"id": Value("int64"), "language": Value("string"), "query": Value("string"), "response": Value("string")}
        ),
        columns={
            "id": "line in the source from 0: the same question in every language",
            "language": "ISO 639-1 code",
            "query": "the question",
            "response": "the answer, a number as published (5,600 or 5600)",
        },
        parts=[Part(places("mgsm/mgsm_{}.tsv", LANGUAGES), read, row)],
        origins=[
            Origin(
                "MGSM",
                "https://github.com/google-research/url-nlp",
                "`mgsm/mgsm_<language>.tsv`.",
                "CC BY-SA 4.0; the English questions are GSM8K's (MIT).",
            )
        ],
        licence="cc-by-sa-4.0",
        split="test",
        limits=[
            "A test set: keep it out of training data.",
            "The few-shot examples of the source are not in it.",
            "MGSM's TSV files were not seen when the reader was written; their layout is that of published readers.",
        ],
        tags=["mathematics"],
    )


if __name__ == "__main__":
    sys.exit(main(recipe))
