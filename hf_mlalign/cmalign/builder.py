"""`CMAlignPreferenceBuilder`: from samples in many languages to the preference pairs `trl.DPOTrainer` takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign._version import __version__
from hf_mlalign.cmalign.consistency import encode_responses
from hf_mlalign.cmalign.options import PairOptions
from hf_mlalign.cmalign.pairs import (
    Counts,
    LanguageCheck,
    PairResult,
    choose_pairs,
    guard_pairs,
    guard_samples,
    load_policy,
)
from hf_mlalign.cmalign.rewards import central_references, load_reward, name_of, score_samples
from hf_mlalign.cmalign.samples import Samples, read_samples
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import takes
from hf_mlalign.data.columns import is_messages, last_contents
from hf_mlalign.models.encoder import load_encoder, model_hash

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

COLUMNS = ("prompt", "chosen", "rejected", "language", "prompt_id", "score_chosen", "score_rejected", "margin",
           "reference_prompt", "reference", "reference_consistency", "candidate_chosen",
           "candidate_rejected")  # fmt: skip
"""Columns of preference pairs."""


class CMAlignPreferenceBuilder:
    """Builds DPO pairs by consistency across languages (CM-Align).

    Step 1 chooses an English reference for every prompt: the sample with the highest mean cosine to its siblings, or,
    where final answers can be extracted, the most central sample with the majority's answer. Step 2 scores every other
    language's samples against it; the best becomes chosen, the worst rejected.

    Apart from the names, a `reward` can be your own function or object (see `hf_mlalign.cmalign.rewards`), a `policy`
    your own function (see `hf_mlalign.cmalign.pairs`), and a `model` anything that
    `hf_mlalign.models.encoder.load_encoder` takes. After `build`, `result_` holds a `PairResult` with what each filter
    dropped per language.

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
        """Keep vectors and scores of models in this folder, so that after a kill the same call continues where it
        stopped. Nothing is kept for models that are given as objects, because their content is not known."""
        self._work = folder
        values = list(self._given.values())
        plain = all(value is None or isinstance(value, (str, int, float, PurePath)) for value in values)
        if plain and hasattr(self.reward, "keep_in"):
            contents = [model_hash(value) for value in values if isinstance(value, (str, PurePath))]
            self.reward.keep_in(folder, (name_of(self.reward), _shown(self._given), contents))

    @property
    def parameters(self) -> dict[str, Any]:
        """The options as plain values, for records and cards."""
        shown = {name: _shown(value) for name, value in self.options.parameters().items()}
        return {**shown, "reward": name_of(self.reward), "reward_options": _shown(self._given)}

    def build(self, ds: Dataset, embeddings: Any = None) -> Dataset | DatasetDict:
        """The pairs made from `ds`, as a `Dataset`; with `test_size`, a `DatasetDict` of train and test.

        Args:
            ds: rows `prompt_id, language, prompt, response` (one row per sample) or with `responses` (a list). Prompts
                are texts or lists of messages.
            embeddings: (n, d) vectors of the samples in the order of `ds`; default: its column "embedding", else the
                texts are encoded.
        Returns:
            The columns of `hf_mlalign.cmalign.builder.COLUMNS`; `reference_prompt` and `reference` have the form of
            `prompt` and `chosen`, scores are float32, `candidate_*` are indices of samples within prompt and language.
        Raises:
            DataError: unusable columns or values, no English samples where the reward needs them, or no pair is left
                (the message says what dropped them).
        """
        import xxhash
        from datasets import Dataset, DatasetDict
        from datasets.table import InMemoryTable

        start, options = time.perf_counter(), self.options
        samples = read_samples(
            ds, options.column_mapping, embeddings=embeddings, answer_kind=options.answer_kind,
            encode=lambda texts: encode_responses(load_encoder(self.model), texts, options.answer_spans, self._work),
        )  # fmt: skip
        if options.output_format == "standard":
            check_single_turns(samples)
        self.result_ = result = self.pairs_of(samples)
        chosen, rejected, scores = result.chosen, result.rejected, result.scores
        table = pair_table(samples, chosen, rejected, scores, options.output_format)
        result.seconds = time.perf_counter() - start
        if not len(chosen):
            raise DataError(f"No pair is left. {result.summary()}")
        digest = xxhash.xxh64(f"{ds._fingerprint} {sorted(self.parameters.items())} {__version__}".encode())
        for values in (chosen, rejected, scores[chosen], scores[rejected]):
            digest.update(np.ascontiguousarray(values).tobytes())
        pairs = Dataset(InMemoryTable(table), fingerprint=digest.hexdigest())  # without a copy
        if not options.test_size:
            return pairs
        test = self.in_test(samples, chosen)
        return DatasetDict(train=pairs.select(np.flatnonzero(~test)), test=pairs.select(np.flatnonzero(test)))

    def pairs_of(self, samples: Samples, part: bool = False) -> PairResult:
        """Choose the pairs of `samples`: what `build` does between reading and writing.

        part: the samples are whole prompts of a larger pool, which `check` has seen as a whole; notes on it are left
        out.
        """
        options, counts = self.options, Counts(samples.languages)
        guard_samples(samples, counts, options.min_chars, options.drop_truncated)
        check = LanguageCheck(samples) if options.require_language else None
        notes = [] if part else self.check(samples)
        self._choose_references(samples, counts, check)
        candidates = samples.wanted = self.candidates(samples)
        scores = score_samples(self.reward, samples)
        weak = np.zeros(len(samples), bool)  # the prompt's reference is not consistent enough
        if options.min_reference_consistency is not None:
            low = ~(samples.reference_consistency >= options.min_reference_consistency)
            weak = (low & (samples.reference >= 0))[samples.prompt]
        allowed = ~weak
        if getattr(self.reward, "needs_reference", True):
            allowed &= samples.reference_rows >= 0
        counts.add("not_scored", samples.language[candidates & samples.usable & np.isnan(scores) & allowed])
        keys, usable_scores = samples.uniform(options.seed, 2), np.where(candidates & allowed, scores, np.nan)
        while True:  # a sample in a wrong language is dropped, and its group chosen from again
            chosen, rejected = choose_pairs(
                options.policy, np.where(samples.usable, usable_scores, np.nan), samples.group, keys
            )
            wrong = check.fails(np.concatenate([chosen, rejected])) if check else chosen[:0]
            if not len(wrong):
                break
            samples.usable[wrong] = False
            counts.add("wrong_language", samples.language[wrong])
        made = np.zeros(len(samples.starts), bool)
        made[samples.group[chosen]] = True
        empty = samples.starts[candidates[samples.starts] & ~made]  # first samples of groups without a pair
        reason = np.where(weak, "low_consistency", np.where(allowed, "too_few", "no_reference"))[empty]
        for guard in ("no_reference", "low_consistency", "too_few"):
            counts.add(guard, samples.language[empty[reason == guard]])
        keep = guard_pairs(
            samples, chosen, rejected, scores[chosen] - scores[rejected], counts, options.min_margin,
            options.max_length_ratio, options.drop_same_answer and getattr(self.reward, "uses_answers", False),
        )  # fmt: skip
        chosen, rejected = chosen[keep], rejected[keep]
        if not part:
            notes += different_prompts(samples, chosen, rejected, differ(samples, chosen, rejected))
        return PairResult(self.parameters, samples, scores, chosen, rejected, counts, notes)

    def check(self, samples: Samples) -> list[str]:
        """Notes on languages and prompts of all samples.

        Raises:
            DataError: there is no language to make pairs for, or no prompt has the English samples the reward needs.
        """
        unknown = LanguageCheck(samples).unknown if self.options.require_language else []
        notes = [f"No language identification for {listed(unknown)}: not checked there."] if unknown else []
        english = _distinct(samples.prompt[samples.is_english], samples.n_prompts)
        others = _distinct(samples.prompt[~samples.is_english], samples.n_prompts)
        if not len(others) and not self.options.include_english:
            raise DataError(
                "language: only English samples. Add other languages, or set --include-english (include_english=True)."
            )
        needs = getattr(self.reward, "needs_reference", True)
        if needs and not len(english):
            raise DataError(
                f"language: reward {name_of(self.reward)!r} compares with English samples, but there are none "
                f"(languages found: {listed(samples.languages)}). Also sample the prompts in English, or use "
                "--reward vote."
            )
        joined = np.intersect1d(english, others, assume_unique=True)
        if needs and len(others) and not len(joined):
            show = [samples.prompt_ids[int(codes[0])].as_py() for codes in (english, others)]
            raise DataError(
                f"prompt_id: no id occurs both in English and in another language (English has {show[0]!r}, another "
                f"language {show[1]!r}). Give a prompt the same id in all languages."
            )
        if len(others) > len(joined) and len(english):
            notes.append(f"{len(others) - len(joined):,} of {len(others):,} prompts have no English samples.")
        return notes

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
            name = name_of(self.reward)
            raise DataError(f"reward {name}: rank_references must return {len(rows)} numbers without NaN.")
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

    def candidates(self, samples: Samples) -> np.ndarray:
        """(n,) bool: samples of the languages for which pairs are made."""
        return np.ones(len(samples), bool) if self.options.include_english else ~samples.is_english

    def in_test(self, samples: Samples, chosen: np.ndarray) -> np.ndarray:
        """(k,) bool: the pairs of the prompts that go to the test split; DataError if a split would be empty."""
        prompts, share = samples.prompt[chosen], self.options.test_size
        present = np.unique(prompts)
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


def _distinct(codes: np.ndarray, n: int) -> np.ndarray:
    seen = np.zeros(n, bool)
    seen[codes] = True
    return np.flatnonzero(seen)


def check_single_turns(samples: Samples) -> None:
    """DataError if a prompt has several messages, which has no "standard" form."""
    if not is_messages(samples.prompts.type):
        return
    turns = pc.fill_null(pc.list_value_length(samples.prompts), 1).to_numpy(zero_copy_only=False)
    if (turns != 1).any():
        raise DataError(
            f'output_format: prompts of several messages (row {int(np.argmax(turns != 1))}) have no "standard" form. '
            "Use conversational."
        )


def pair_table(
    samples: Samples, chosen: np.ndarray, rejected: np.ndarray, scores: np.ndarray, output_format: str
) -> pa.Table:
    """The k pairs with the columns `COLUMNS`; `reference*` are null where a prompt has no reference."""
    conversational, has_turns = output_format == "conversational", is_messages(samples.prompts.type)

    def prompts_of(rows: pa.Array) -> pa.Array:
        prompts = samples.prompts.take(rows)
        if has_turns:
            return _role_and_content(prompts) if conversational else last_contents(prompts, "prompt")
        return _messages(prompts, "user") if conversational else prompts

    def answers_of(rows: pa.Array) -> pa.Array:
        texts = samples.responses.take(rows)
        return _messages(texts, "assistant") if conversational else texts

    prompts = samples.prompt[chosen]
    reference = samples.reference[prompts]
    missing = reference < 0
    columns = [
        prompts_of(pa.array(samples.prompt_rows[chosen])),
        answers_of(pa.array(chosen)),
        answers_of(pa.array(rejected)),
        pa.array(samples.languages).take(pa.array(samples.language[chosen])),
        samples.prompt_ids.take(pa.array(prompts)),
        pa.array(scores[chosen].astype(np.float32)),
        pa.array(scores[rejected].astype(np.float32)),
        pa.array((scores[chosen] - scores[rejected]).astype(np.float32)),
        prompts_of(pa.array(samples.prompt_rows[reference], mask=missing)),
        answers_of(pa.array(reference, mask=missing)),
        pa.array(samples.reference_consistency[prompts].astype(np.float32), from_pandas=True),
        pa.array(samples.sample[chosen].astype(np.int32)),
        pa.array(samples.sample[rejected].astype(np.int32)),
    ]
    return pa.Table.from_arrays(columns, names=list(COLUMNS))


def _messages(texts: pa.Array, role: str) -> pa.Array:
    """[{role, content}] for each text; null for a missing one."""
    n = len(texts)
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    roles = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([role])).dictionary_decode()
    struct = pa.StructArray.from_arrays([roles, texts], names=["role", "content"])
    if not missing.any():
        return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), struct)
    return pa.ListArray.from_arrays(
        pa.array(np.append(0, np.cumsum(~missing)).astype(np.int32), mask=np.append(missing, False)),
        struct.filter(pa.array(~missing)),
    )


def _role_and_content(prompts: pa.Array) -> pa.Array:
    """Message lists with the fields role and content only, in this order."""
    if [f.name for f in prompts.type.value_type] == ["role", "content"] and pa.types.is_list(prompts.type):
        return prompts
    lengths = pc.fill_null(pc.list_value_length(prompts), 0).to_numpy(zero_copy_only=False)
    flat = prompts.flatten()
    struct = pa.StructArray.from_arrays([flat.field("role"), flat.field("content")], names=["role", "content"])
    missing = prompts.is_null().to_numpy(zero_copy_only=False)
    ends = np.append(0, np.cumsum(lengths)).astype(np.int32)
    offsets = pa.array(ends, mask=np.append(missing, False)) if missing.any() else pa.array(ends)
    return pa.ListArray.from_arrays(offsets, struct)


def differ(samples: Samples, chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """(k,) bool: the two samples of the pair answer differently worded prompts."""
    sides = [samples.prompt_rows[rows] for rows in (chosen, rejected)]
    texts = [last_contents(samples.prompts.take(pa.array(rows)), "prompt") for rows in sides]
    return pc.fill_null(pc.not_equal(*texts), False).to_numpy(zero_copy_only=False)


def different_prompts(samples: Samples, chosen: np.ndarray, rejected: np.ndarray, different: np.ndarray) -> list[str]:
    """A sentence on the pairs whose two samples answer differently worded prompts (`differ`), where there are any."""
    found = np.flatnonzero(different)
    if not len(found):
        return []
    best, worst = chosen[found[0]], rejected[found[0]]
    what = "pairs combine" if len(found) > 1 else "pair combines"
    return [
        f"{len(found):,} {what} samples whose prompts differ in wording (first: prompt_id "
        f"{samples.prompt_ids[int(samples.prompt[best])].as_py()!r} in {samples.languages[samples.language[best]]!r}, "
        f"rows {samples.prompt_rows[best]} and {samples.prompt_rows[worst]}); the chosen sample's prompt is used. If "
        "they are different questions, give each its own id."
    ]
