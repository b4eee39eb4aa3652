"""Trains a Quality Scoring Model with the paper's triplet loss, measures it on unseen samples and writes its card.

    python -m hf_mlalign.launch.train_qsm --data ../shared/data/expert_revisions.parquet --output qsm
    accelerate launch -m hf_mlalign.launch.train_qsm --data … --encoder FacebookAI/xlm-roberta-large --output qsm-xlmr

The data has one row a pair: `raw_instruction`, `raw_input` (optional), `raw_response` (the negative),
`revised_response` (the positive), and, optional, `id` (the same sample in every language) and `language`.
With the bundled encoder, or any other static one, a head is trained on the frozen encoder (about a minute); any other
encoder is fine-tuned whole.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.mdaq.quality.accuracy import check_triplets, evaluate_pairs, has_text, pairs_table
from hf_mlalign.mdaq.quality.scorer import QualityScorer
from hf_mlalign.models.encoder import BUNDLED

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("raw_instruction", "raw_response", "revised_response")
HELD_OUT = "id % 10 == 3"


@dataclass(frozen=True)
class QSMConfig:
    """Settings of `main`; `None` means the method's own default."""

    data: str = field(metadata={"help": "Parquet or JSON Lines file of raw and revised responses"})
    output: str = field(metadata={"help": "folder to write"})
    encoder: str | None = field(default=None, metadata={"help": "name or folder; default: the bundled encoder"})
    method: str = field(default="auto", metadata={"help": "head, finetune or auto (head for static encoders)"})
    leave_out_languages: tuple[str, ...] = field(default=(), metadata={"help": "measured, not trained on"})
    epochs: float | None = field(default=None, metadata={"help": "passes over the triplets"})
    lr: float | None = field(default=None, metadata={"help": "peak learning rate"})
    epsilon: float = field(default=0.3, metadata={"help": "margin of the triplet loss (paper: 0.3)"})
    batch_size: int | None = field(default=None, metadata={"help": "triplets a step and device"})
    max_steps: int = field(default=-1, metadata={"help": "finetune: stop after so many steps"})
    seed: int = field(default=0, metadata={"help": "of every random draw"})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, …"})
    paper_loss_only: bool = field(default=False, metadata={"help": "head: no weights or negatives of our own"})


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Rows with `instruction` (input appended), `positive`, `negative`, `id`, `language`, and `held_out`.

    Pairs that are the same or blank are dropped. A row is held out where `id % 10 == 3`, so that all translations of a
    sample are on one side.

    Raises:
        DataError: a column is missing, or no usable pair is left.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise DataError(f"--data: there is no file {str(path)!r}.")
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True)
    missing = [c for c in REQUIRED if c not in table]
    if missing:
        raise DataError(f"--data: columns not found: {listed(missing)}. Columns found: {listed(table.columns)}.")
    inputs = table["raw_input"] if "raw_input" in table else [""] * len(table)
    pairs = pd.DataFrame(
        {
            "instruction": [_joined(a, b) for a, b in zip(table["raw_instruction"], inputs)],
            "positive": table["revised_response"],
            "negative": table["raw_response"],
            "id": table["id"].astype(int) if "id" in table else range(len(table)),
            "language": table.get("language", "all"),
        }
    )
    usable = [all(map(has_text, row)) and row[1] != row[2] for row in pairs.iloc[:, :3].itertuples(index=False)]
    pairs = pairs[usable].reset_index(drop=True)
    if not len(pairs):
        raise DataError("--data: no pair of different, non-blank responses is left.")
    return pairs.assign(held_out=pairs["id"] % 10 == 3)


def _joined(instruction: str, extra: str | None) -> str:
    return f"{instruction}\n\n{extra}" if isinstance(extra, str) and extra.strip() else instruction


def train(config: QSMConfig) -> tuple[QualityScorer, dict[str, dict[str, float]]]:
    """Train, save and measure; returns the scorer and the figures of `evaluate_pairs` on the held-out samples.

    Figures of languages that were left out of training carry a `*`.
    """
    pairs = read_pairs(config.data)
    left_out = pairs["language"].isin(config.leave_out_languages)
    training, held_out = pairs[~pairs["held_out"] & ~left_out], pairs[pairs["held_out"]]
    check_triplets(list(training["instruction"]), list(training["positive"]), list(training["negative"]))
    scorer = QualityScorer.load(config.encoder or BUNDLED / "encoder", device=config.device)
    if _method(config, scorer) == "head":
        scorer = _train_head(config, scorer, training)
        scorer.save(config.output)
    else:
        scorer = _finetune(config, training)
    held = [list(held_out[c]) for c in ("instruction", "positive", "negative", "language")]
    figures = evaluate_pairs(scorer, *held) if len(held_out) else {}
    starred = {f"{k} *" if k in config.leave_out_languages else k: row for k, row in figures.items()}
    return scorer, starred


def _method(config: QSMConfig, scorer: QualityScorer) -> str:
    if config.method not in ("auto", "head", "finetune"):
        raise DataError(f"--method: {config.method!r} is not one of auto, head, finetune.")
    if config.method != "auto":
        return config.method
    model = getattr(scorer.encoder, "model", None)
    return "head" if model is None or type(model[0]).__name__ == "StaticEmbedding" else "finetune"


def _train_head(config: QSMConfig, scorer: QualityScorer, training: pd.DataFrame) -> QualityScorer:
    from hf_mlalign.mdaq.quality.training import HeadTraining

    settings = HeadTraining(epsilon=config.epsilon, seed=config.seed)
    given = {"epochs": config.epochs and int(config.epochs), "lr": config.lr, "batch_size": config.batch_size}
    settings = replace(settings, **{k: v for k, v in given.items() if v is not None})
    if config.paper_loss_only:
        settings = settings.paper()
    texts = [list(training[c]) for c in ("instruction", "positive", "negative")]
    report = lambda epoch, loss: print(f"epoch {epoch}: mean loss {loss:.4f}", flush=True)  # noqa: E731
    return scorer.train(*texts, groups=list(training["id"]), settings=settings, on_epoch=report)


def _finetune(config: QSMConfig, training: pd.DataFrame) -> QualityScorer:
    from hf_mlalign.mdaq.quality.finetuning import finetune

    given = {"epochs": config.epochs, "lr": config.lr, "batch_size": config.batch_size}
    folder = finetune(
        config.encoder or BUNDLED / "encoder",
        *(list(training[c]) for c in ("instruction", "positive", "negative")),
        config.output,
        epsilon=config.epsilon,
        max_steps=config.max_steps,
        seed=config.seed,
        device=config.device,
        **{k: v for k, v in given.items() if v is not None},
    )
    return QualityScorer.load(folder, device=config.device)


def model_card(config: QSMConfig, figures: dict[str, dict[str, float]], checks: dict[str, float]) -> str:
    """README.md of a trained model: what it is, figures, sources, licences, limits."""
    languages = [name.removesuffix(" *") for name in figures if name != "all"]
    block = "".join(f"- {code}\n" for code in languages if len(code) == 2)
    return _CARD.format(
        languages=f"language:\n{block}" if block else "",
        encoder=config.encoder or "the encoder bundled with hf_mlalign",
        table=pairs_table(figures),
        star="\nLanguages with a * were left out of training.\n" if config.leave_out_languages else "",
        checks="\n".join(f"| {name} | {value:.3f} |" for name, value in checks.items()),
        held_out=HELD_OUT,
        seed=config.seed,
        epsilon=config.epsilon,
    )


_CARD = """---
license: cc-by-nc-4.0
library_name: hf_mlalign
tags:
- m-daq
- quality-estimation
{languages}---

# Quality Scoring Model (M-DaQ)

score(instruction, response) = −‖v_instruction − v_response‖₂; higher is better. Trained from {encoder}
with the triplet loss max(‖v_i − v_p‖₂ − ‖v_i − v_n‖₂ + ε, 0), ε = {epsilon} (M-DaQ): anchor = the instruction with its
input, positive = the response after revision by experts, negative = the raw response. Seed {seed}. How it was chosen,
and what was tried: docs/qsm.md of hf_mlalign.

```python
from hf_mlalign import QualityScorer
QualityScorer.load().score(["Name a fruit."], ["An apple is a fruit."])
```

## Figures

Pair accuracy (how often the revised response scores above the raw one) on held-out samples ({held_out}; no translation
of a held-out sample was trained on). Length-matched: the two responses' lengths in characters are within ±10 %.

{table}
{star}
How often the revised response scores above a deliberately bad one, on the same samples:

| bad response | accuracy |
|---|---|
{checks}

## Data and licences

Raw and expert-revised Alpaca samples in English (CoachLM, Apache-2.0) and their machine translations into eleven
languages (MIDB, Apache-2.0). Rows derived from Alpaca are CC BY-NC 4.0; these weights are therefore for non-commercial
use. No row of the data is part of the model's files.

## Limits

- It learned one team's taste: revised answers are longer, start with an introduction and use spaced lists. It sees
  layout (paragraphs, lists, bold type, punctuation) and the topic, not whether a statement is true.
- Scores compare responses to one instruction. Across instructions they also reflect how long and how well laid out the
  usual answer is; across languages compare ranks rather than values.
- Short correct answers ("Paris.") score below longer ones.
- An answer on another topic or in another language is noticed only part of the time, see the second table.
"""


def sanity_checks(scorer: QualityScorer, pairs: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """How often a held-out revised response scores above a bad response of five kinds, in [0, 1]."""
    from hf_mlalign.mdaq.quality.training import broken_responses

    held = pairs[pairs["held_out"]].reset_index(drop=True)
    held = held.sample(frac=1, random_state=seed).sort_values("language", kind="stable").reset_index(drop=True)
    instructions, positives = list(held["instruction"]), list(held["positive"])
    bad: dict[str, list[str | None]] = {
        "the instruction repeated": instructions,
        "cut off in mid-sentence": broken_responses(instructions, positives, seed, copies=0.0),
        "another sample's revised response, same language": _of_next_row(held, "language", "id"),
        "the same response in another language": _of_next_row(held, "id", "language"),
        "another sample's revised response, another language": _of_next_row(held.assign(x=0), "x", "language"),
    }
    good = scorer.score(instructions, positives)
    figures = {}
    for name, texts in bad.items():
        rows = [i for i, text in enumerate(texts) if text is not None]
        worse = scorer.score([instructions[i] for i in rows], [texts[i] for i in rows])
        figures[name] = float(((good[rows] > worse) + 0.5 * (good[rows] == worse)).mean()) if rows else float("nan")
    return figures


def _of_next_row(held: pd.DataFrame, same: str, other: str) -> list[str | None]:
    """For each row the `positive` of a later row (cyclic) with the same `same` and another `other`; None if none."""
    out: list[str | None] = [None] * len(held)
    for _, group in held.groupby(same, sort=False):
        rows = list(group.index)
        values, texts = list(group[other]), list(group["positive"])
        for k, row in enumerate(rows):
            shifted = ((k + step) % len(rows) for step in range(1, len(rows)))
            out[row] = next((texts[j] for j in shifted if values[j] != values[k]), None)
    return out


def make_parser() -> argparse.ArgumentParser:
    """The command line: one option for each field of `QSMConfig`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help=_help("data"))
    parser.add_argument("--output", required=True, help=_help("output"))
    parser.add_argument("--encoder", help=_help("encoder"))
    parser.add_argument("--method", default="auto", choices=("auto", "head", "finetune"), help=_help("method"))
    parser.add_argument("--leave-out-languages", nargs="*", default=(), help=_help("leave_out_languages"))
    for name, kind in (("epochs", float), ("lr", float), ("batch_size", int)):
        parser.add_argument("--" + name.replace("_", "-"), type=kind, help=_help(name))
    parser.add_argument("--epsilon", type=float, default=0.3, help=_help("epsilon"))
    parser.add_argument("--max-steps", type=int, default=-1, help=_help("max_steps"))
    parser.add_argument("--seed", type=int, default=0, help=_help("seed"))
    parser.add_argument("--device", help=_help("device"))
    parser.add_argument("--paper-loss-only", action="store_true", help=_help("paper_loss_only"))
    return parser


def _help(name: str) -> str:
    return QSMConfig.__dataclass_fields__[name].metadata["help"]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, print the table, write the card; returns the figures."""
    options = vars(make_parser().parse_args(arguments))
    config = QSMConfig(**{**options, "leave_out_languages": tuple(options["leave_out_languages"])})
    begun = time.time()
    scorer, figures = train(config)
    checks = sanity_checks(scorer, read_pairs(config.data)) if figures else {}
    Path(config.output, "README.md").write_text(model_card(config, figures, checks), encoding="utf-8")
    print(pairs_table(figures))
    for name, value in checks.items():
        print(f"revised above {name}: {value:.3f}")
    print(f"Saved in {config.output} after {time.time() - begun:.0f} s.")
    return {"pairs": figures, "checks": checks}


if __name__ == "__main__":
    main()
