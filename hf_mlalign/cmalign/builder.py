"""`CMAlignPreferenceBuilder`: from samples in many languages to the preference pairs `trl.DPOTrainer` takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from hf_mlalign._version import __version__
from hf_mlalign.cmalign.embedding import encode_responses
from hf_mlalign.cmalign.filters import Counts, LanguageCheck, guard_pairs, guard_samples
from hf_mlalign.cmalign.options import PairOptions
from hf_mlalign.cmalign.pair_table import different_prompts, pair_table, to_dataset
from hf_mlalign.cmalign.policies import choose_pairs, load_policy
from hf_mlalign.cmalign.result import PairResult
from hf_mlalign.cmalign.rewards import central_references, load_reward, name_of, score_samples
from hf_mlalign.cmalign.samples import Samples, read_samples
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import takes
from hf_mlalign.data.arrow import is_messages
from hf_mlalign.models.encoder import load_encoder, model_hash

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


class CMAlignPreferenceBuilder:
    """Builds DPO pairs by consistency across languages (CM-Align).

    Step 1 chooses an English reference for every prompt: the sample with the highest mean cosine to its siblings, or,
    where final answers can be extracted, the most central sample with the majority's answer. Step 2 scores every other
    language's samples against it; the best becomes chosen, the worst rejected.

    Beside its names, a `reward` is your own function or object (see `hf_mlalign.cmalign.rewards`), a `policy` your own
    function (see `hf_mlalign.cmalign.policies`), and a `model` anything that `hf_mlalign.models.encoder.load_encoder`
    takes. After `build`, `result_` holds a `PairResult` with the counts of every guard by language.

    Raises:
        DataError: an option that is not known or out of range, with its name.
    """

    @takes(PairOptions, positional=2)
    def __init__(self, options: PairOptions):
        self.options = options
        given = options.reward_options
        if options.reward == "random":
            given = {"seed": options.seed, **given}
        self.reward, self.model, self._given = load_reward(options.reward, **given), options.model, given
        load_policy(options.policy)
        self._work: Path | None = None
        self.result_: PairResult | None = None

    def keep_in(self, folder: Path) -> None:
        """Keep vectors and scores of models in this folder while `build` runs: after a kill, the same call goes on.

        Of models that are given as objects nothing is kept, since their content is not known.
        """
        self._work = folder
        if hasattr(self.reward, "keep_in") and all(_is_plain(value) for value in self._given.values()):
            contents = [model_hash(value) for value in self._given.values() if isinstance(value, (str, PurePath))]
            self.reward.keep_in(folder, (name_of(self.reward), _shown(self._given), contents))

    @property
    def parameters(self) -> dict[str, Any]:
        """The options as plain values, for records and cards."""
        shown = {name: _shown(value) for name, value in self.options.parameters().items()}
        return {**shown, "reward": name_of(self.reward), "reward_options": _shown(self._given)}

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
            ds,
            self.options.column_mapping,
            embeddings=embeddings,
            encode=self._encode,
            answer_kind=self.options.answer_kind,
        )
        if self.options.output_format == "standard":
            check_single_turns(samples)
        result = self.pairs_of(samples)
        table = pair_table(samples, result.chosen, result.rejected, result.scores, self.options.output_format)
        result.seconds = time.perf_counter() - start
        self.result_ = result
        if not len(result.chosen):
            raise DataError(f"No pair is left. {result.summary()}")
        pairs = to_dataset(table, _fingerprint(ds, self.parameters, result))
        return self._split(pairs, samples, result)

    def pairs_of(self, samples: Samples, part: bool = False) -> PairResult:
        """Choose the pairs of `samples`; what `build` does between reading and writing.

        part: the samples are whole prompts of a larger pool, which `check` has seen as a whole; notes on it are left
        out.
        """
        counts, notes = Counts(samples.languages), []
        guard_samples(samples, counts, self.options.min_chars, self.options.drop_truncated)
        check = LanguageCheck(samples) if self.options.require_language else None
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
        keep = guard_pairs(
            samples, chosen, rejected, margins, counts, self.options.min_margin, self.options.max_length_ratio,
            self.options.drop_same_answer and getattr(self.reward, "uses_answers", False),
        )  # fmt: skip
        chosen, rejected = chosen[keep], rejected[keep]
        note = None if part else different_prompts(samples, chosen, rejected)
        return PairResult(self.parameters, samples, scores, chosen, rejected, counts, notes + ([note] if note else []))

    def _encode(self, texts: list[str]) -> np.ndarray:
        return encode_responses(load_encoder(self.model), texts, self.options.answer_spans, self._work)

    def check(self, samples: Samples) -> list[str]:
        """Notes on languages and prompts of all samples; DataError if no pair can be made of them."""
        unknown = LanguageCheck(samples).unknown if self.options.require_language else []
        notes = [f"No language identification for {listed(unknown)}: not checked there."] if unknown else []
        self._check_joins(samples, notes)
        return notes

    def _check_joins(self, samples: Samples, notes: list[str]) -> None:
        """Raise if there is no language to make pairs for, or no prompt can have the English reference it needs."""
        english = _distinct(samples.prompt[samples.is_english], samples.n_prompts)
        others = _distinct(samples.prompt[~samples.is_english], samples.n_prompts)
        if not len(others) and not self.options.include_english:
            raise DataError(
                "language: only English samples. Add other languages, or set --include-english (include_english=True)."
            )
        needs = getattr(self.reward, "needs_reference", True)
        if needs and not len(english):
            raise DataError(
                f"language: reward {name_of(self.reward)!r} compares with English samples and there are none "
                f"(languages found: {listed(samples.languages)}). Sample the prompts in English, too, or use "
                "--reward vote."
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
        return np.ones(len(samples), bool) if self.options.include_english else ~samples.is_english

    def _has_reference(self, samples: Samples) -> np.ndarray:
        """(n,) bool: the sample's prompt has a good enough reference, or needs none."""
        ok = np.ones(samples.n_prompts, bool)
        if getattr(self.reward, "needs_reference", True):
            ok &= samples.reference >= 0
        return ok[samples.prompt] & ~self._inconsistent(samples)

    def _inconsistent(self, samples: Samples) -> np.ndarray:
        if self.options.min_reference_consistency is None:
            return np.zeros(len(samples), bool)
        low = ~(samples.reference_consistency >= self.options.min_reference_consistency) & (samples.reference >= 0)
        return low[samples.prompt]

    def _choose(self, samples: Samples, scores: np.ndarray, counts: Counts, check: LanguageCheck | None):
        """Pairs by the policy; a sample in a wrong language is dropped and its group done again."""
        keys = samples.uniform(self.options.seed, 2)
        allowed = self._has_reference(samples)
        while True:
            chosen, rejected = choose_pairs(
                self.options.policy, np.where(samples.usable & allowed, scores, np.nan), samples.group, keys
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
        if not self.options.test_size:
            return pairs
        from datasets import DatasetDict

        test = self.in_test(samples, result.chosen)
        return DatasetDict(train=pairs.select(np.flatnonzero(~test)), test=pairs.select(np.flatnonzero(test)))

    def in_test(self, samples: Samples, chosen: np.ndarray) -> np.ndarray:
        """(k,) bool: the pairs of the prompts that go to the test split; DataError if a split would be empty."""
        prompts = samples.prompt[chosen]
        present = np.unique(prompts)
        share = self.options.test_size
        n_test = round(share * len(present))
        if not 0 < n_test < len(present):
            raise DataError(f"test_size: {share} of {len(present)} prompts leaves one split empty. Change it.")
        return np.isin(prompts, np.random.default_rng([self.options.seed, 3]).permutation(present)[:n_test])


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
