"""X-CSQA samples of CALM: three sampled answers of two models to commonsense questions, and the right option.

    git clone https://github.com/wangym2/CALM
    python dataset_scripts/xcsqa_samples.py --source CALM --output xcsqa_samples

Layout: `data/xcsqa/samples/x_csqa_<language>_train_sampled.json` (Llama) and `…_train_mistral_sampled.json` (Mistral),
Chinese as "cn": a JSON array of {"instruction", "input", "output": "A" to "E", "pred": [answer, …]}.
"""

import sys

from datasets import Features, List, Value

from hf_mlalign.core.errors import DataError
from shared.building import main
from shared.public_files import AGAIN, Record, read_json
from shared.recipes import BuildArguments, Origin, Part, Recipe, places

LANGUAGES = {"de": "de", "en": "en", "fr": "fr", "it": "it", "ja": "ja", "zh": "cn"}
MODELS = {"mistral": "train_mistral_sampled", "llama": "train_sampled"}


def row(record: Record) -> dict:
    """An object of the JSON array as a row."""
    gold = record.text("output").strip()
    if gold not in set("ABCDE"):
        raise DataError(f"{record.place}: 'output' is {gold!r}, not an option A to E. {AGAIN}")
    return {
        "id": record.number, "instruction": record.text("instruction"), "input": record.text("input"), "gold": gold,
        "samples": record.texts("pred"),
    }  # fmt: skip


def recipe(arguments: BuildArguments) -> Recipe:
    """Build the X-CSQA samples of CALM."""
    text = Value("string")
    features = {
        "id": Value("int64"), "language": text, "model": text, "instruction": text, "input": text, "gold": text,
        "samples": List(text),
    }  # fmt: skip
    return Recipe(
        name="xcsqa_samples",
        title="X-CSQA samples of CALM",
        summary="Sampled answers of a Llama and a Mistral model to multiple-choice commonsense questions in six "
        "languages (CALM, NAACL 2025 Findings). The same id is the same question in every language and of both models.",
        features=Features(features),
        columns={
            "id": "position in the source from 0: the same question in every language",
            "language": "ISO 639-1 code",
            "model": "llama or mistral: who answered",
            "instruction": "what the model was told to do, in the language",
            "input": "question and options A to E",
            "gold": "the right option",
            "samples": "the sampled answers",
        },
        parts=[
            Part(places(f"data/xcsqa/samples/x_csqa_{{}}_{ending}.json", LANGUAGES), read_json, row, {"model": model})
            for model, ending in MODELS.items()
        ],
        origins=[
            Origin(
                "CALM",
                "https://github.com/wangym2/CALM",
                "`data/xcsqa/samples/`.",
                "none found in the repository; the questions are X-CSQA's, a translation of CommonsenseQA. Ask the "
                "authors before you publish the rows.",
            )
        ],
        licence="unknown",
        limits=[
            "Which Llama and which Mistral model answered is not in the files; see the paper.",
            "Some samples hold several languages, several options or a refusal: they are left as they are.",
        ],
        tasks=("question-answering",),
        tags=["preference-optimisation", "commonsense"],
    )


if __name__ == "__main__":
    sys.exit(main(recipe))
