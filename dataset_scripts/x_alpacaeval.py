"""X-AlpacaEval: AlpacaEval's prompts in many languages, and the answers of four GPT models to them.

    git clone https://github.com/ZNLP/Language-Imbalance-Driven-Rewarding
    python dataset_scripts/x_alpacaeval.py --source Language-Imbalance-Driven-Rewarding --output x_alpacaeval
    python dataset_scripts/x_alpacaeval.py --content prompts --source … --output x_alpacaeval_prompts

Layout: `results/base_model/x-alpacaeval/<model>/<language>.jsonl`, one {"id", "dataset", "prompt", "response",
"model_api"} a line; prompts: `data/x-alpacaeval/data/<language>.json`, a JSON array of {"id", "dataset",
"instruction"}.
"""

import sys
from dataclasses import dataclass, field
from typing import Literal

from datasets import Features, Value

from shared.building import main
from shared.public_files import Record, read_json, read_json_lines
from shared.recipes import BuildArguments, Origin, Part, Recipe

FIVE = ("de", "en", "es", "fr", "ru")
RESPONSES = {
    "gpt-3.5-turbo-0125": FIVE,
    "gpt-4-0613": FIVE,
    "gpt-4-turbo-2024-04-09": ("bn", "de", "es", "fr", "ru", "sw", "th", "zh"),
    "gpt-4o-mini": FIVE,
}
PROMPTS = ("ar", "bn", "de", "en", "es", "fr", "it", "ja", "ko", "ru", "sw", "th", "zh")
COLUMNS = {
    "id": "the published id: the same prompt in every language and of every model",
    "language": "ISO 639-1 code",
    "model": "who answered",
    "subset": "the part of AlpacaEval the prompt is from",
    "prompt": "the prompt, translated",
    "response": "the model's answer",
}


@dataclass
class Arguments(BuildArguments):
    """Also: which of the two sets to build."""

    content: Literal["responses", "prompts"] = field(default="responses", metadata={"help": "What to build."})


def response_row(record: Record) -> dict:
    """A line of a model's answers as a row."""
    return {
        "id": record.whole("id"), "subset": record.text("dataset"), "prompt": record.text("prompt"),
        "response": record.text("response", blank=True),
    }  # fmt: skip


def prompt_row(record: Record) -> dict:
    """An object of the prompts as a row."""
    return {"id": record.whole("id"), "subset": record.text("dataset"), "prompt": record.text("instruction")}


def parts(content: str) -> list[Part]:
    if content == "prompts":
        return [Part({code: [f"data/x-alpacaeval/data/{code}.json"] for code in PROMPTS}, read_json, prompt_row)]
    folder = "results/base_model/x-alpacaeval"
    return [
        Part({code: [f"{folder}/{model}/{code}.jsonl"] for code in codes}, read_json_lines, response_row,
             {"model": model})
        for model, codes in RESPONSES.items()
    ]  # fmt: skip


def recipe(arguments: Arguments) -> Recipe:
    """Build X-AlpacaEval: answers of GPT models, or the prompts alone."""
    names = [name for name in COLUMNS if arguments.content == "responses" or name not in ("model", "response")]
    return Recipe(
        name="x_alpacaeval",
        title=f"X-AlpacaEval {arguments.content}",
        summary="AlpacaEval's prompts, translated"
        + (", and the answers of GPT models to them" if arguments.content == "responses" else "")
        + ", as published with Language Imbalance Driven Rewarding (arXiv 2410.08964).",
        features=Features({name: Value("int64" if name == "id" else "string") for name in names}),
        columns=COLUMNS,
        parts=parts(arguments.content),
        origins=[
            Origin(
                "Language Imbalance Driven Rewarding",
                "https://github.com/ZNLP/Language-Imbalance-Driven-Rewarding",
                "`results/base_model/x-alpacaeval/` or `data/x-alpacaeval/data/`.",
                "its README says Apache-2.0, parts excepted; AlpacaEval's data are CC BY-NC 4.0. OpenAI's terms limit "
                "what the answers of its models may be used for.",
            )
        ],
        licence="cc-by-nc-4.0",
        split="test",
        aligned=False,
        limits=[
            "An evaluation set: keep the prompts out of training data.",
            "The prompts are machine translations; not every model answered in every language.",
        ],
        tags=["evaluation", "alpaca-eval"],
    )


if __name__ == "__main__":
    sys.exit(main(recipe, Arguments))
