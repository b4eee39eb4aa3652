"""Questions and their English translation, without answers: SNLI in 5 languages, GSM8K in up to 9.

    git clone https://github.com/Shimao-Zhang/LLM-Multilingual-Learner
    git clone https://github.com/NJUNLP/QAlign
    python dataset_scripts/question_translation.py --source LLM-Multilingual-Learner --gsm8k-source QAlign \\
        --output question_translation

Layout: SNLI: `data/snli/snli_<language>10k_train_question.json`, a JSON array of {"input": prompt that ends in
"Translate the input from …", "answer": the English text}. GSM8K: line n of
`data/gsmtrans/gsm8kinstruct_question/<language>-en/train.<language>` is translated by line n of `train.en` beside it;
as in QAlign's own loader, lines are stripped and pairs with a blank line left out.
"""

import sys
from dataclasses import dataclass, field

from datasets import Features, Value

from shared.building import main
from shared.public_files import Record, read_json, read_parallel
from shared.recipes import BuildArguments, Origin, Part, Recipe, places

SNLI = ("de", "es", "it", "sw", "zh")
GSM8K = ("bn", "de", "es", "fr", "ja", "ru", "sw", "th", "zh")
FOLDER = "data/gsmtrans/gsm8kinstruct_question"


@dataclass
class Arguments(BuildArguments):
    """Also: a second source."""

    gsm8k_source: str | None = field(default=None, metadata={"help": "The same of QAlign, for the GSM8K questions."})


def snli_row(record: Record) -> dict:
    """An object of the JSON array as a row."""
    return {"id": record.number, "source": record.text("input"), "target": record.text("answer")}


def gsm8k_row(record: Record) -> dict | None:
    """A pair of lines as a row; `None` where one is blank."""
    source, target = (record.text(name, blank=True).strip() for name in ("source", "target"))
    return {"id": record.number, "source": source, "target": target} if source and target else None


def recipe(arguments: Arguments) -> Recipe:
    """Build question-translation data: SNLI and GSM8K questions with their English translation."""
    columns = {
        "id": "position in the source from 0, within task and language",
        "source_language": "language of `source`",
        "target_language": "language of `target`: en",
        "task": "snli or gsm8k",
        "source": "the question; of snli, with the line that asks for the translation",
        "target": "its English translation",
    }
    gsm8k = {code: [f"{FOLDER}/{code}-en/train.{code}"] for code in GSM8K}
    return Recipe(
        name="question_translation",
        title="Question translation",
        summary="Questions in several languages and the same in English, without answers: what spontaneous "
        "multilingual alignment (arXiv 2405.13816) and question alignment (QAlign) are trained on.",
        features=Features({name: Value("int64" if name == "id" else "string") for name in columns}),
        columns=columns,
        parts=[
            Part(places("data/snli/snli_{}10k_train_question.json", SNLI), read_json, snli_row,
                 {"task": "snli", "target_language": "en"}),
            Part(gsm8k, read_parallel, gsm8k_row, {"task": "gsm8k", "target_language": "en"}, source="gsm8k_source",
                 beside={code: [f"{FOLDER}/{code}-en/train.en"] for code in GSM8K}),
        ],
        origins=[
            Origin("Spontaneous multilingual alignment", "https://github.com/Shimao-Zhang/LLM-Multilingual-Learner",
                   "`data/snli/snli_<language>10k_train_question.json`.",
                   "SNLI is CC BY-SA 4.0; no licence was found with the translations."),
            Origin("QAlign", "https://github.com/NJUNLP/QAlign", f"`{FOLDER}/`.",
                   "GSM8K is MIT; no licence was found with the translations (GSM8KInstruct)."),
        ],
        licence="cc-by-sa-4.0",
        aligned=False,
        language_column="source_language",
        limits=[
            "The translations are machine-made; GSM8K's are as many as its translators kept, so the same id is not the "
            "same question in two languages.",
            "QAlign's text files were not seen when the reader was written; the layout is that of its gsmtrans.py.",
        ],
        tasks=("translation",),
        tags=["question-translation"],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(recipe, Arguments))
