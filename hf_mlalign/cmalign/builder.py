"""`CMAlignPreferenceBuilder`: from samples in many languages to the preference pairs `trl.DPOTrainer` takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from hf_mlalign._version import __version__
from hf_mlalign.cmalign.embedding import encode_responses
from hf_mlalign.cmalign.filters import Counts, LanguageCheck, guard_pairs, guard_samples
from hf_mlalign.cmalign.pair_table import FORMATS, different_prompts, pair_table, to_dataset
from hf_mlalign.cmalign.policies import choose_pairs, load_policy
from hf_mlalign.cmalign.result import PairResult
from hf_mlalign.cmalign.rewards import central_references, load_reward, name_of, score_samples
from hf_mlalign.cmalign.samples import Samples, read_samples
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import check_share, check_whole, shown
from hf_mlalign.data.answers.extract import check_kind
from hf_mlalign.data.arrow import is_messages
from hf_mlalign.models.encoder import load_encoder, model_hash

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


class CMAlignPreferenceBuilder:
    """Builds DPO pairs by consistency across languages (CM-Align).

    Step 1 chooses an English reference for every prompt: the sample with the highest mean cosine to its siblings, or,
    where final answers can be extracted, the most central sample with the majority's answer. Step 2 scores every other
    language's samples against it; the best becomes chosen, the worst rejected.

    Args:
        reward: "auto" (*ours*: answers where there are any, else embeddings), "embedding" (*paper*), "answer", the
            baselines "first_english", "vote" (CALM), "translation" (MAPO), "implicit" (ICR), "hidden_state" (LaCoMSA),
            the controls "length" and "random", or your own function (see `hf_mlalign.cmalign.rewards`).
        policy: "best_worst" (*paper*), "all_pairs", "best_random", "random_pair", or your own (see
            `hf_mlalign.cmalign.policies`).
        model: encoder for embeddings that are not given, see `hf_mlalign.models.encoder.load_encoder`; default:
        bundled. reward_options: options of a reward that is given by name.
        min_margin: only pairs whose scores differ by more than this (0, *ours*: ties are dropped).
        max_length_ratio: drop pairs of which one text is more than so many times as long (10, *ours*; `None`: never).
        require_language: take samples out that are surely in another language than they should be (`True`, *ours*):
            DPO would learn the language, not the content.
        include_english: pairs for English, too: the reference against the English sample farthest from it (`False`,
            *ours*).
        min_reference_consistency: drop prompts whose reference has a lower `reference_consistency` (`None`, *ours*).
        min_chars: shorter samples are taken out (1, *ours*).
        drop_truncated: take samples out whose `finish_reason` is "length" (`True`, *ours*).
        drop_same_answer: where the English samples have final answers, drop pairs whose two texts give the same one:
            they differ in wording, not in being right (`True`, *ours*; only for rewards that use answers).
        test_size: share of the prompts, in [0, 1), that goes to a test split, with all their languages (0, *ours*).
        seed: of the split, the random policies and the reward "random", 0 or more (0).
        output_format: "conversational" (lists of messages) or "standard" (strings).
        answer_spans: encode the marked final answer ("Answer: …") of a text beside the whole text (`True`, *ours*), see
            `hf_mlalign.cmalign.embedding`; not for embeddings that are given.
        answer_kind: "auto", "choice" or "number", see `answers.extract_answers`.
        column_mapping: your column → role: prompt_id, language, prompt, response or responses, sample, finish_reason,
            embedding.

    After `build`, `result_` holds a `PairResult` with the counts of every guard by language.
    """

    def __init__(
        self,
        reward: str | Callable[[Samples], Any] = "auto",
        policy: str | Callable = "best_worst",
        *,
        model: Any = None,
        reward_options: Mapping[str, Any] | None = None,
        min_margin: float = 0.0,
        max_length_ratio: float | None = 10.0,
        require_language: bool = True,
        include_english: bool = False,
        min_reference_consistency: float | None = None,
        min_chars: int = 1,
        drop_truncated: bool = True,
        drop_same_answer: bool = True,
        test_size: float = 0.0,
        seed: int = 0,
        output_format: str = "conversational",
        answer_kind: str = "auto",
        answer_spans: bool = True,
        column_mapping: Mapping[str, str] | None = None,
    ):
        _check_numbers(min_margin, max_length_ratio, min_reference_consistency, min_chars, test_size, seed)
        check_kind(answer_kind, "answer_kind")
        given = dict(reward_options or {})
        if reward == "random":
            given.setdefault("seed", seed)
        self.reward, self.policy, self.model = load_reward(reward, **given), policy, model
        self.reward_options = {name: _shown(value) for name, value in given.items()}
        load_policy(policy)
        if not isinstance(output_format, str) or output_format not in FORMATS:
            raise DataError(f"output_format: unknown {output_format!r}. Known: {listed(FORMATS)}.")
        self.min_margin, self.max_length_ratio, self.require_language = min_margin, max_length_ratio, require_language
        self.include_english, self.min_reference_consistency = include_english, min_reference_consistency
        self.min_chars, self.drop_truncated, self.drop_same_answer = min_chars, drop_truncated, drop_same_answer
        self.test_size, self.seed, self.output_format = test_size, seed, output_format
        self.answer_kind, self.answer_spans = answer_kind, answer_spans
        self.column_mapping = dict(column_mapping) if column_mapping else None
        self._given, self._work = given, None
        self.result_: PairResult | None = None

    def keep_in(self, folder: Path) -> None:
        """Keep vectors and scores of models in this folder while `build` runs: after a kill, the same call goes on.

        Of models that are given as objects nothing is kept, since their content is not known.
        """
        self._work = folder
        if hasattr(self.reward, "keep_in") and all(_is_plain(value) for value in self._given.values()):
            contents = [model_hash(value) for value in self._given.values() if isinstance(value, (str, PurePath))]
            self.reward.keep_in(folder, (name_of(self.reward), self.reward_options, contents))

    @property
    def options(self) -> dict[str, Any]:
        """The settings as plain values, for records and cards."""
        names = ("min_margin", "max_length_ratio", "require_language", "include_english", "min_reference_consistency",
                 "min_chars", "drop_truncated", "drop_same_answer", "test_size", "seed", "output_format",
                 "answer_kind", "answer_spans")  # fmt: skip
        shown = {
            "reward": name_of(self.reward), "reward_options": self.reward_options, "policy": _shown(self.policy),
            "model": _shown(self.model), "column_mapping": self.column_mapping,
        }  # fmt: skip
        return shown | {name: _shown(getattr(self, name)) for name in names}

    def build(self, ds: Dataset, embeddings: Any = None) -> Dataset | DatasetDict:
        """The pairs made from `ds`, as a `Dataset`; with `test_size`, a `DatasetDict` of train and test.

        Args:
            ds: rows `prompt_id, language, prompt, response` (one row a sample) or with `responses` (a list). Prompts
                are texts or lists of messages.
            embeddings: (n, d) vectors of the samples in the order of `ds`; default: its column "embedding", else the
                texts are encoded.
        Returns:
            The columns of `hf_mlalign.cmalign.pair_table.COLUMNS`; `reference_prompt` and `reference` have the form of
            `prompt` and `chosen`, scores are float32, `candidate_*` are indices of samples within prompt and language.
        Raises:
            DataError: unusable columns or values, no English samples where the reward needs them, or not one pair left
                (the message says what dropped them).
        """
        start = time.perf_counter()
        samples = read_samples(
            ds, self.column_mapping, embeddings=embeddings, encode=self._encode, answer_kind=self.answer_kind
        )
        if self.output_format == "standard":
            check_single_turns(samples)
        result = self.pairs_of(samples)
        table = pair_table(samples, result.chosen, result.rejected, result.scores, self.output_format)
        result.seconds = time.perf_counter() - start
        self.result_ = result
        if not len(result.chosen):
            raise DataError(f"No pair is left. {result.summary()}")
        pairs = to_dataset(table, _fingerprint(ds, self.options, result))
        return self._split(pairs, samples, result)

    def pairs_of(self, samples: Samples, part: bool = False) -> PairResult:
        """Choose the pairs of `samples`; what `build` does between reading and writing.

        part: the samples are whole prompts of a larger pool, which `check` has seen as a whole; notes on it are left
        out.
        """
        counts, notes = Counts(samples.languages), []
        guard_samples(samples, counts, self.min_chars, self.drop_truncated)
        check = LanguageCheck(samples) if self.require_language else None
        if not part:
            notes += self.check(samples)
        self._choose_references(samples, counts, check)
        candidates = samples.wanted = self._candidates(samples)
        scores = score_samples(self.reward, samples)
        missing = candidates & samples.usable & np.isnan(scores) & self._has_reference(samples)
        counts.add("not_scored", samples.language[missing])
        chosen, rejected = self._choose(samples, np.where(candidates, scores, np.nan), counts, check)
        self._count_groups(samples, candidates, chosen, counts)
        margins = scores[chosen] - scores[rejected]
        same_answer = self.drop_same_answer and getattr(self.reward, "uses_answers", False)
        keep = guard_pairs(
            samples, chosen, rejected, margins, counts, self.min_margin, self.max_length_ratio, same_answer
        )
        chosen, rejected = chosen[keep], rejected[keep]
        note = None if part else different_prompts(samples, chosen, rejected)
        return PairResult(self.options, samples, scores, chosen, rejected, counts, notes + ([note] if note else []))

    def _encode(self, texts: list[str]) -> np.ndarray:
        return encode_responses(load_encoder(self.model), texts, self.answer_spans, self._work)

    def check(self, samples: Samples) -> list[str]:
        """Notes on languages and prompts of all samples; DataError if no pair can be made of them."""
        unknown = LanguageCheck(samples).unknown if self.require_language else []
        notes = [f"No language identification for {listed(unknown)}: not checked there."] if unknown else []
        self._check_joins(samples, notes)
        return notes

    def _check_joins(self, samples: Samples, notes: list[str]) -> None:
        """Raise if there is no language to make pairs for, or no prompt can have the English reference it needs."""
        english = _distinct(samples.prompt[samples.is_english], samples.n_prompts)
        others = _distinct(samples.prompt[~samples.is_english], samples.n_prompts)
        if not len(others) and not self.include_english:
            raise DataError("language: only English samples; set include_english=True or add other languages.")
        needs = getattr(self.reward, "needs_reference", True)
        if needs and not len(english):
            raise DataError(
                f"language: reward {name_of(self.reward)!r} compares with English samples and there are none "
                f"(languages found: {listed(samples.languages)}). Sample the prompts in English, too, or use "
                'reward="vote".'
            )
        joined = np.intersect1d(english, others, assume_unique=True)
        if needs and len(others) and not len(joined):
            show = [samples.prompt_ids[int(codes[0])].as_py() for codes in (english, others)]
            raise DataError(
                f"prompt_id: no id occurs both in English and in another language (English has {show[0]!r}, another "
                f"has {show[1]!r}). Give a prompt the same id in all languages."
            )
        if len(others) > len(joined) and len(english):
            notes.append(f"{len(others) - len(joined):,} of {len(others):,} prompts have no English samples.")

    def _choose_references(self, samples: Samples, counts: Counts, check: LanguageCheck | None) -> None:
        """Set `samples.reference` and `samples.reference_consistency`; samples not in English cannot be references."""
        rank = getattr(self.reward, "rank_references", None)
        if rank is None and getattr(self.reward, "needs_reference", True):
            rank = central_references
        rows = np.flatnonzero(samples.is_english & samples.usable)
        if rank is None or not len(rows):
            return
        ranks, consistency = (np.asarray(values, np.float64) for values in rank(samples, rows))
        if ranks.shape != rows.shape or consistency.shape != rows.shape or np.isnan(ranks).any():
            raise DataError(f"reward {name_of(self.reward)}: rank_references must give {len(rows)} numbers, no NaN.")
        while True:
            order = np.lexsort((-ranks, samples.prompt[rows]))
            best = order[np.diff(samples.prompt[rows[order]], prepend=-1) != 0]
            wrong = check.fails(rows[best]) if check else rows[:0]
            if not len(wrong):
                break
            samples.usable[wrong] = False
            counts.add("wrong_language", samples.language[wrong])
            keep = samples.usable[rows]
            rows, ranks, consistency = rows[keep], ranks[keep], consistency[keep]
        samples.reference[samples.prompt[rows[best]]] = rows[best]
        samples.reference_consistency[samples.prompt[rows[best]]] = consistency[best]

    def _candidates(self, samples: Samples) -> np.ndarray:
        """(n,) bool: samples of the languages for which pairs are made."""
        return np.ones(len(samples), bool) if self.include_english else ~samples.is_english

    def _has_reference(self, samples: Samples) -> np.ndarray:
        """(n,) bool: the sample's prompt has a good enough reference, or needs none."""
        ok = np.ones(samples.n_prompts, bool)
        if getattr(self.reward, "needs_reference", True):
            ok &= samples.reference >= 0
        return ok[samples.prompt] & ~self._inconsistent(samples)

    def _inconsistent(self, samples: Samples) -> np.ndarray:
        if self.min_reference_consistency is None:
            return np.zeros(len(samples), bool)
        low = ~(samples.reference_consistency >= self.min_reference_consistency) & (samples.reference >= 0)
        return low[samples.prompt]

    def _choose(self, samples: Samples, scores: np.ndarray, counts: Counts, check: LanguageCheck | None):
        """Pairs by the policy; a sample in a wrong language is dropped and its group done again."""
        keys = samples.uniform(self.seed, 2)
        allowed = self._has_reference(samples)
        while True:
            chosen, rejected = choose_pairs(
                self.policy, np.where(samples.usable & allowed, scores, np.nan), samples.group, keys
            )
            wrong = check.fails(np.concatenate([chosen, rejected])) if check else chosen[:0]
            if not len(wrong):
                return chosen, rejected
            samples.usable[wrong] = False
            counts.add("wrong_language", samples.language[wrong])

    def _count_groups(self, samples: Samples, candidates: np.ndarray, chosen: np.ndarray, counts: Counts) -> None:
        """Count each group of a prompt and language without any pair under the reason for it."""
        first = samples.starts
        target = candidates[first]
        made = np.zeros(len(first), bool)
        made[samples.group[chosen]] = True
        inconsistent = self._inconsistent(samples)[first]
        no_reference = ~self._has_reference(samples)[first] & ~inconsistent
        reasons = {
            "no_reference": target & ~made & no_reference,
            "low_consistency": target & ~made & ~no_reference & inconsistent,
            "too_few": target & ~made & ~no_reference & ~inconsistent,
        }
        for guard, groups in reasons.items():
            counts.add(guard, samples.language[first[groups]])

    def _split(self, pairs: Dataset, samples: Samples, result: PairResult) -> Dataset | DatasetDict:
        if not self.test_size:
            return pairs
        from datasets import DatasetDict

        test = self.in_test(samples, result.chosen)
        return DatasetDict(train=pairs.select(np.flatnonzero(~test)), test=pairs.select(np.flatnonzero(test)))

    def in_test(self, samples: Samples, chosen: np.ndarray) -> np.ndarray:
        """(k,) bool: the pairs of the prompts that go to the test split; DataError if a split would be empty."""
        prompts = samples.prompt[chosen]
        present = np.unique(prompts)
        n_test = round(self.test_size * len(present))
        if not 0 < n_test < len(present):
            raise DataError(f"test_size: {self.test_size} of {len(present)} prompts leaves one split empty. Change it.")
        return np.isin(prompts, np.random.default_rng([self.seed, 3]).permutation(present)[:n_test])


def _shown(value: Any) -> Any:
    """`value` for JSON records: plain values as they are, an object by its name or class, never by its address."""
    if isinstance(value, Mapping):
        return {str(key): _shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, int, float)):
        return value
    return str(value) if isinstance(value, PurePath) else getattr(value, "__name__", type(value).__name__)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, PurePath))


def check_single_turns(samples: Samples) -> None:
    """DataError if a prompt has several messages, which has no "standard" form."""
    if not is_messages(samples.prompts.type):
        return
    turns = pc.fill_null(pc.list_value_length(samples.prompts), 1).to_numpy(zero_copy_only=False)
    if (turns != 1).any():
        raise DataError(
            f'output_format: prompts of several messages (row {int(np.argmax(turns != 1))}) have no "standard" form. '
            'Use output_format="conversational".'
        )


def _distinct(codes: np.ndarray, n: int) -> np.ndarray:
    seen = np.zeros(n, bool)
    seen[codes] = True
    return np.flatnonzero(seen)


def _fingerprint(ds: Dataset, options: dict[str, Any], result: PairResult) -> str:
    import xxhash

    digest = xxhash.xxh64(f"{ds._fingerprint} {sorted(options.items())} {__version__}".encode())
    for values in (result.chosen, result.rejected, result.scores[result.chosen], result.scores[result.rejected]):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _check_numbers(min_margin, max_length_ratio, min_reference_consistency, min_chars, test_size, seed) -> None:
    check_whole(seed, "seed")
    check_whole(min_chars, "min_chars")
    if not isinstance(test_size, Real) or not 0 <= test_size < 1:
        raise DataError(f"test_size is {shown(test_size)}; give a share of the prompts from 0 up to, not including, 1")
    for name, value, least in (("min_margin", min_margin, 0), ("max_length_ratio", max_length_ratio, 1)):
        allowed = value is None and name == "max_length_ratio"
        if not allowed and (not isinstance(value, Real) or not value >= least):
            raise DataError(f"{name} is {shown(value)}; "
                            "min_margin must be at least 0 and max_length_ratio at least 1 (or None).")  # fmt: skip
    if min_reference_consistency is not None:
        check_share(min_reference_consistency, "min_reference_consistency", low=-1)
