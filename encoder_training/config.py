"""Settings of the encoder and its training."""

from __future__ import annotations

from dataclasses import dataclass, field

SOURCE_WEIGHTS = {
    "news": 5.0, "lexicon": 4.0, "revisions": 2.0, "paragraphs": 3.0, "prompts": 2.0, "x_alpacaeval": 1.0,
    "snli": 1.0, "reviews": 1.5, "questions": 1.0, "tatoeba": 2.5, "story": 2.5, "interface": 1.0, "names": 0.7,
    "browser": 0.8, "help": 1.0, "dictionary": 2.5, "pivot": 0.5, "cldr": 0.7,
}  # fmt: skip
"""Weight of each source of parallel text (*ours*); see `encoder_training.train.cell_chances`."""
TERSE = frozenset(("interface", "browser", "help", "names", "pivot", "cldr", "dictionary", "lexicon"))
"""Sources of short texts: they count a quarter in the last steps."""


@dataclass(frozen=True)
class EncoderConfig:
    """Settings of the encoder and its training (all *ours*).

    Args:
        vocabulary: pieces of the tokenizer.
        dimension: length of the vectors.
        steps: optimiser steps.
        batch: pairs per step; the other pairs of the batch are the negatives.
        learning_rate: of Adam, falling linearly to a fiftieth.
        scale: factor on the cosines in the softmax (inverse temperature).
        target_tokens: short texts of one source and language are joined to about this many tokens.
        max_tokens: texts are cut after this many tokens in training.
        token_dropout: share of tokens left out of each text, drawn at each step.
        any_pair: share of pairs between two languages other than English.
        chars_per_language: training text of the tokenizer.
        seed: seed of every random draw.
        prose_phase: share of the steps at the end in which `TERSE` sources count a quarter.
        source_weights: by source, see `cell_chances`.
        threads: torch threads; the result depends on it only by rounding.
    """

    vocabulary: int = 100_000
    dimension: int = 128
    steps: int = 9000
    batch: int = 1024
    learning_rate: float = 0.03
    scale: float = 20.0
    target_tokens: int = 25
    max_tokens: int = 64
    token_dropout: float = 0.1
    any_pair: float = 0.15
    folding: bool = True
    chars_per_language: int = 500_000
    seed: int = 0
    threads: int = 1
    prose_phase: float = 0.3
    source_weights: dict[str, float] = field(default_factory=lambda: dict(SOURCE_WEIGHTS))
