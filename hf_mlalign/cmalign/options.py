"""The options of `build-pairs`, `CMAlignPreferenceBuilder` and `lint`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.options import Options, SourceOptions, TrackerOptions, option
from hf_mlalign.data.answers.extract import KINDS

FORMATS = ("conversational", "standard")


@dataclass(kw_only=True)
class PairOptions(Options):
    """How samples become preference pairs (CM-Align)."""

    job = "build-pairs"

    reward: str | Callable = option(
        "auto",
        "How samples are scored: auto, embedding, answer, vote, translation, implicit, hidden_state, first_english, "
        "length or random.",
        panel="Pairs",
    )
    policy: str | Callable = option(
        "best_worst",
        "Which samples become pairs: best_worst, all_pairs, best_random or random_pair.",
        origin="paper",
        panel="Pairs",
    )
    model: Any = option(None, "Sentence encoder: a folder or Hub name.", panel="Model", shown="bundled")
    reward_options: dict[str, Any] = option(
        {}, "Options of a reward that is given by name.", panel="Pairs", on_command_line=False
    )
    min_margin: float = option(
        0.0, "Keep pairs whose scores differ by more than this; at 0, ties are dropped.", panel="Pairs", low=0
    )
    max_length_ratio: float | None = option(
        10.0, "Drop pairs with one text more than this many times as long as the other.", panel="Pairs", low=1
    )
    require_language: bool = option(
        True, "Drop answers that are clearly in another language than their row says.", panel="Pairs"
    )
    include_english: bool = option(
        False, "Also make pairs for English: the reference and the sample farthest from it.", panel="Pairs"
    )
    min_reference_consistency: float | None = option(
        None, "Drop prompts with an English reference less consistent than this.", panel="Pairs", low=-1, high=1
    )
    min_chars: int = option(1, "Drop answers with fewer characters.", panel="Pairs", low=0)
    drop_truncated: bool = option(
        True, "Drop answers that were cut at max_tokens.", panel="Pairs", flag="--drop-truncated/--keep-truncated"
    )
    drop_same_answer: bool = option(
        True,
        "Drop pairs with the same final answer.",
        panel="Pairs",
        flag="--drop-same-answer/--keep-same-answer",
    )
    answer_kind: str = option("auto", "How final answers are read.", panel="Pairs", choices=KINDS)
    answer_spans: bool = option(
        True,
        'Encode the marked final answer ("Answer: …") as well as the whole text.',
        panel="Pairs",
        flag="--answer-spans/--whole-texts",
    )
    test_size: float = option(
        0.0, "Share of the prompts that go to a test split, with all their languages.", panel="Output", low=0
    )
    seed: int = option(0, "Seed of the test split, the random policies and the reward random.", panel="Pairs", low=0)
    output_format: str = option(
        "conversational", "Form of prompts and answers: lists of messages, or plain texts.", panel="Output",
        choices=FORMATS,
    )  # fmt: skip
    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. question=prompt,lang=language.", panel="Data"
    )

    def check(self) -> None:
        if self.test_size >= 1:
            raise DataError(f"test_size: {self.test_size} is out of range. Give a share of the prompts below 1.")
        self.reward_options = dict(self.reward_options or {})
        self.column_mapping = dict(self.column_mapping) if self.column_mapping else None


@dataclass(kw_only=True)
class BuildPairsOptions(TrackerOptions, PairOptions, SourceOptions):
    """The options of `build_pairs`."""

    job = "build-pairs"

    reward_model: str | None = option(
        None, "Model of the reward translation, implicit (after DPO) or hidden_state.", panel="Model", in_record=False
    )
    reward_reference_model: str | None = option(
        None, "Model before DPO, of the reward implicit.", panel="Model", in_record=False
    )
    overwrite: bool = option(
        False, "Replace the pairs in the folder.", panel="Output", in_record=False
    )

    def check(self) -> None:
        super().check()
        models = {"model": self.reward_model, "reference_model": self.reward_reference_model}
        self.reward_options |= {name: value for name, value in models.items() if value}


@dataclass(kw_only=True)
class LintOptions(Options):
    """The options of `lint` and `lint_preferences`."""

    job = "lint"

    split: str | None = option(None, "Check only this split. Default: all splits.", panel="Data", shown="all")
    config_name: str | None = option(None, "Configuration of the source.", panel="Data")
    sample: int = option(2_000, "Number of rows whose language is identified.", panel="Run", low=0)
    seed: int = option(0, "Seed for drawing these rows.", panel="Run", low=0)
