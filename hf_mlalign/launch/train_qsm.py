"""Trains a Quality Scoring Model with the paper's triplet loss, measures it on unseen samples and writes its card.

    python -m hf_mlalign.launch.train_qsm --data expert_revisions.parquet --output qsm
    accelerate launch -m hf_mlalign.launch.train_qsm --data … --encoder FacebookAI/xlm-roberta-large --output qsm-xlmr

The data has one row per pair: `raw_instruction`, `raw_input` (optional), `raw_response` (the negative),
`revised_response` (the positive), and, optionally, `id` (the same sample in every language) and `language`.
With the bundled encoder, or any other static one, a head is trained on the frozen encoder (about a minute). Any other
encoder is fine-tuned as a whole.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import plain_type
from hf_mlalign.core.validation import has_text
from hf_mlalign.hub.card import render_card
from hf_mlalign.mdaq.quality.accuracy import check_triplets, evaluate_pairs, pairs_table
from hf_mlalign.mdaq.quality.scorer import QualityScorer
from hf_mlalign.models.encoder import BUNDLED

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("raw_instruction", "raw_response", "revised_response")
HELD_OUT = "id % 10 == 3"


METHODS = ("auto", "head", "finetune")


@dataclass(frozen=True)
class QSMConfig:
    """Settings of `main`, from which its command line is made; `None` means the method's own default."""

    data: str = field(metadata={"help": "Parquet or JSON Lines file of raw and revised responses"})
    output: str = field(metadata={"help": "folder to write"})
    encoder: str | None = field(default=None, metadata={"help": "name or folder; default: the bundled encoder"})
    method: str = field(default="auto", metadata={"help": "head, finetune or auto (head for static encoders)"})
    leave_out_languages: tuple[str, ...] = field(default=(), metadata={"help": "measured, but not trained on"})
    epochs: float | None = field(default=None, metadata={"help": "passes over the triplets"})
    lr: float | None = field(default=None, metadata={"help": "peak learning rate"})
    epsilon: float = field(default=0.3, metadata={"help": "margin of the triplet loss (paper: 0.3)"})
    batch_size: int | None = field(default=None, metadata={"help": "triplets per step and device"})
    max_steps: int = field(default=-1, metadata={"help": "finetune: stop after this many steps"})
    seed: int = field(default=0, metadata={"help": "seed of every random draw"})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, …"})
    paper_loss_only: bool = field(default=False, metadata={"help": "head: without our weights and negatives"})


def read_revisions(path: str | Path) -> pd.DataFrame:
    """Rows with `instruction` (input appended), `positive`, `negative`, `id`, `language`, and `held_out`.

    Pairs with equal or blank responses are dropped. A row is held out if `id % 10 == 3`, so that all translations of a
    sample are on the same side.

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
            "instruction": [
                f"{text}\n\n{extra}" if isinstance(extra, str) and extra.strip() else text
                for text, extra in zip(table["raw_instruction"], inputs)
            ],
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


def train_scorer(config: QSMConfig) -> tuple[QualityScorer, dict[str, dict[str, float]]]:
    """Train, save and measure; returns the scorer and the figures of `evaluate_pairs` on the held-out samples.

    Figures of languages that were left out of training are marked with `*`.
    """
    pairs = read_revisions(config.data)
    left_out = pairs["language"].isin(config.leave_out_languages)
    training, held_out = pairs[~pairs["held_out"] & ~left_out], pairs[pairs["held_out"]]
    check_triplets(list(training["instruction"]), list(training["positive"]), list(training["negative"]))
    scorer = QualityScorer.load(config.encoder or BUNDLED / "encoder", device=config.device)
    method = config.method
    if method not in METHODS:
        raise DataError(f"--method: {method!r} is not one of {', '.join(METHODS)}.")
    if method == "auto":
        model = getattr(scorer.encoder, "model", None)
        method = "head" if model is None or type(model[0]).__name__ == "StaticEmbedding" else "finetune"
    triplets = [list(training[c]) for c in ("instruction", "positive", "negative")]
    given = {"epochs": config.epochs, "lr": config.lr, "batch_size": config.batch_size}
    given = {name: value for name, value in given.items() if value is not None}
    if method == "head":
        from hf_mlalign.mdaq.quality.training import HeadTraining

        if config.epochs is not None:
            given["epochs"] = int(config.epochs)
        settings = HeadTraining(epsilon=config.epsilon, seed=config.seed, **given)
        scorer = scorer.train(
            *triplets, groups=list(training["id"]), settings=settings.paper() if config.paper_loss_only else settings,
            on_epoch=lambda epoch, loss: print(f"epoch {epoch}: mean loss {loss:.4f}", flush=True),
        )  # fmt: skip
        scorer.save(config.output)
    else:
        from hf_mlalign.mdaq.quality.finetuning import finetune

        folder = finetune(
            config.encoder or BUNDLED / "encoder", *triplets, config.output, epsilon=config.epsilon,
            max_steps=config.max_steps, seed=config.seed, device=config.device, **given,
        )  # fmt: skip
        scorer = QualityScorer.load(folder, device=config.device)
    held = [list(held_out[c]) for c in ("instruction", "positive", "negative", "language")]
    figures = evaluate_pairs(scorer, *held) if len(held_out) else {}
    starred = {f"{k} *" if k in config.leave_out_languages else k: row for k, row in figures.items()}
    return scorer, starred


def model_card(config: QSMConfig, figures: dict[str, dict[str, float]], checks: dict[str, float]) -> str:
    """README.md of a trained model: what it is, figures, sources, licences, limits."""
    languages = [name.removesuffix(" *") for name in figures if name != "all"]
    block = {
        "license": "cc-by-nc-4.0", "library_name": "hf_mlalign", "tags": ["m-daq", "quality-estimation"],
        "language": [code for code in languages if len(code) == 2],
    }  # fmt: skip
    return render_card(
        "qsm_card.md.j2", {key: value for key, value in block.items() if value},
        encoder=config.encoder or "the encoder bundled with hf_mlalign", table=pairs_table(figures),
        left_out=bool(config.leave_out_languages), checks=checks, held_out=HELD_OUT, seed=config.seed,
        epsilon=config.epsilon,
    )  # fmt: skip


def sanity_checks(scorer: QualityScorer, pairs: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """How often a held-out revised response scores above a bad response, for five kinds of bad ones, in [0, 1]."""
    import numpy as np

    from hf_mlalign.mdaq.quality.training import broken_responses
    from hf_mlalign.mdaq.scorer import MDaQScorer

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
    remembered = MDaQScorer(scorer)  # encodes each text once

    def score(asked: list[str], responses: list[str]) -> np.ndarray:
        return np.array(remembered({"instruction": asked, "response": responses})["quality_score"], dtype=np.float32)

    good = score(instructions, positives)
    figures = {}
    for name, texts in bad.items():
        rows = [i for i, text in enumerate(texts) if text is not None]
        worse = score([instructions[i] for i in rows], [texts[i] for i in rows])
        figures[name] = float(((good[rows] > worse) + 0.5 * (good[rows] == worse)).mean()) if rows else float("nan")
    return figures


def _of_next_row(held: pd.DataFrame, same: str, other: str) -> list[str | None]:
    """For each row, the `positive` of a later row (cyclic) with an equal `same` and a different `other`, or None."""
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
    hints = get_type_hints(QSMConfig)
    for setting in fields(QSMConfig):
        flag, kind = "--" + setting.name.replace("_", "-"), plain_type(hints[setting.name])
        if setting.default is MISSING:
            options: dict[str, Any] = {"required": True}
        elif kind is bool:
            options = {"action": "store_true"}
        elif isinstance(setting.default, tuple):
            options = {"nargs": "*", "default": setting.default}
        else:
            options = {"type": kind, "default": setting.default}
        if setting.name == "method":
            options["choices"] = METHODS
        parser.add_argument(flag, help=setting.metadata["help"], **options)
    return parser


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, print the table, write the card; returns the figures."""
    options = vars(make_parser().parse_args(arguments))
    config = QSMConfig(**{**options, "leave_out_languages": tuple(options["leave_out_languages"])})
    begun = time.time()
    scorer, figures = train_scorer(config)
    checks = sanity_checks(scorer, read_revisions(config.data)) if figures else {}
    Path(config.output, "README.md").write_text(model_card(config, figures, checks), encoding="utf-8")
    print(pairs_table(figures))
    for name, value in checks.items():
        print(f"revised above {name}: {value:.3f}")
    print(f"Saved to {config.output} after {time.time() - begun:.0f} s.")
    return {"pairs": figures, "checks": checks}


if __name__ == "__main__":
    main()
