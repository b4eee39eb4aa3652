"""The evaluation sets of spontaneous multilingual alignment in 20 languages: emotion, SNLI or PAWS.

    git clone https://github.com/Shimao-Zhang/LLM-Multilingual-Learner
    python dataset_scripts/multilingual_evaluation.py --task snli --source LLM-Multilingual-Learner --output snli

Layout: a JSON array in `data/ap_emotion/emotion_<language>500_test.json` of {"input", "answer"}, in
`data/snli/snli_<language>600_test.json` of {"premise", "hypothesis", "answer"}, in
`data/paws/paws_<language>500_test.json` of {"sentence1", "sentence2", "answer"}.
"""

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from datasets import Features, Value

from hf_mlalign.data.languages import SPONTANEOUS_LANGUAGES
from shared.building import main
from shared.public_files import Record, read_json
from shared.recipes import BuildArguments, Origin, Part, Recipe, places

PATHS = {
    "emotion": "data/ap_emotion/emotion_{}500_test.json",
    "snli": "data/snli/snli_{}600_test.json",
    "paws": "data/paws/paws_{}500_test.json",
}
FIELDS = {
    "emotion": {"input": "a review, translated", "answer": "positive or negative, in the language"},
    "snli": {
        "premise": "the premise, translated",
        "hypothesis": "the hypothesis, translated",
        "answer": "entailment, neutral or contradiction, in the language",
    },
    "paws": {
        "sentence1": "a sentence, translated",
        "sentence2": "another, translated",
        "answer": "whether both say the same, as published",
    },
}
ABOUT = {
    "emotion": ("Amazon review polarity", "text-classification", "unknown",
                "reviews of Amazon Reviews Polarity; no licence was found with the translations."),
    "snli": ("SNLI", "text-classification", "cc-by-sa-4.0",
             "SNLI is CC BY-SA 4.0; no licence was found with the translations."),
    "paws": ("PAWS", "text-classification", "unknown",
             "see google-research-datasets/paws on the Hub; no licence was found with the translations."),
}  # fmt: skip


@dataclass
class Arguments(BuildArguments):
    """Also: which of the three sets to build."""

    task: Literal["emotion", "snli", "paws"] = field(default="snli", metadata={"help": "Which set to build."})


def row(task: str, record: Record) -> dict:
    """An object of the JSON array as a row."""
    return {"id": record.number, **{name: record.text(name) for name in FIELDS[task]}}


def recipe(arguments: Arguments) -> Recipe:
    """Build an evaluation set of spontaneous multilingual alignment: emotion, SNLI or PAWS in 20 languages."""
    task = arguments.task
    title, kind, licence, known = ABOUT[task]
    columns = {"id": "position in the source from 0: the same sample in every language", "language": "ISO 639-1 code"}
    columns |= FIELDS[task]
    return Recipe(
        name="multilingual_evaluation",
        title=f"{title} in 20 languages",
        summary=f"{title}, translated into 20 languages with its labels: an evaluation set of spontaneous multilingual "
        "alignment (arXiv 2405.13816).",
        features=Features({name: Value("int64" if name == "id" else "string") for name in columns}),
        columns=columns,
        parts=[Part(places(PATHS[task], SPONTANEOUS_LANGUAGES), read_json, partial(row, task))],
        origins=[
            Origin(
                "Spontaneous multilingual alignment",
                "https://github.com/Shimao-Zhang/LLM-Multilingual-Learner",
                f"`{PATHS[task].format('<language>')}`.",
                known,
            )
        ],
        licence=licence,
        split="test",
        limits=["An evaluation set: keep it out of training data.", "Texts and labels are machine translations."],
        tasks=(kind,),
        tags=["evaluation", task],
    )


if __name__ == "__main__":
    sys.exit(main(recipe, Arguments))
