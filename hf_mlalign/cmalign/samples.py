"""The sampled responses of many prompts in many languages as flat, sorted arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.cmalign.consistency import language_means
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_table, finite_vectors
from hf_mlalign.data.answers.extract import answer_codes, extract_answers
from hf_mlalign.data.columns import (
    arrow_column,
    check_dataset,
    codes_of,
    find_roles,
    flatten_lists,
    is_list,
    is_messages,
    is_text,
    language_codes,
    last_contents,
    matrix,
    named_column,
)

if TYPE_CHECKING:
    from datasets import Dataset

ROLES = ("id", "language", "prompt", "response", "responses", "sample", "model", "finish_reason", "embedding")
"""Roles that are read; `hf_mlalign.data.columns.ROLES` has the column names that are recognised."""


class Samples:
    """n responses, sorted by prompt, language and sample; what a reward sees.

    Attributes:
        prompt: (n,) int32, number of the prompt in [0, P), the same in all languages.
        language: (n,) int32 codes; `languages[code]` is the ISO 639-1 code, `english` the code of English or −1.
        group: (n,) int32, number of the (prompt, language) pair, ascending.
        sample: (n,) int32, the sample's index within its group (or the integer of the sample column).
        reference: (P,) int64, the row of each prompt's reference, −1 where there is none.
        usable: (n,) bool, False for samples that a guard took out (empty, wrong language, …).
        wanted: (n,) bool, True for samples of languages that make pairs; a reward may give NaN to the others.
        pool_means: where the samples are a part of a larger pool, the mean vectors of that pool: (L, d) of its
            languages and (d,) of its usable English samples; else `None`.
    """

    def __init__(
        self,
        prompt: np.ndarray,
        language: np.ndarray,
        languages: list[str],
        responses: pa.Array,
        prompts: pa.Array,
        *,
        prompt_ids: pa.Array,
        prompt_rows: np.ndarray | None = None,
        sample: np.ndarray | None = None,
        truncated: np.ndarray | None = None,
        vectors: np.ndarray | None = None,
        encode: Callable[[list[str]], np.ndarray] | None = None,
        answer_kind: str = "auto",
    ):
        key = prompt.astype(np.int64) * len(languages) + language
        order = np.argsort(key, kind="stable") if sample is None else np.lexsort((sample, key))
        self.order = order = None if (order[1:] > order[:-1]).all() else order
        self.prompt, self.language = _take(prompt, order), _take(language, order)
        self.languages, self.english = languages, languages.index("en") if "en" in languages else -1
        self.prompt_ids, self.prompts = prompt_ids, prompts
        self.prompt_rows = _take(np.arange(len(prompt)) if prompt_rows is None else prompt_rows, order)
        self.responses = responses if order is None else responses.take(pa.array(order))
        self.truncated = None if truncated is None else _take(truncated, order)
        change = (np.diff(self.prompt, prepend=-1) != 0) | (np.diff(self.language, prepend=-1) != 0)
        self.starts = np.flatnonzero(change)
        self.sizes = np.diff(self.starts, append=len(prompt))
        self.group = np.repeat(np.arange(len(self.starts), dtype=np.int32), self.sizes)
        own = np.arange(len(prompt), dtype=np.int32) - np.repeat(self.starts, self.sizes).astype(np.int32)
        self.sample = own if sample is None else _take(sample, order)
        self.reference = np.full(len(prompt_ids), -1, np.int64)
        self.reference_consistency = np.full(len(prompt_ids), np.nan)
        self.usable, self.wanted = np.ones(len(prompt), bool), np.ones(len(prompt), bool)
        self.pool_means: tuple[np.ndarray, np.ndarray] | None = None
        self._vectors, self._encode, self._answer_kind = vectors, encode, answer_kind

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def n_prompts(self) -> int:
        return len(self.prompt_ids)

    @cached_property
    def texts(self) -> list[str]:
        """The n responses; "" for a missing one."""
        return [text or "" for text in self.responses.to_pylist()]

    @cached_property
    def prompt_texts(self) -> list[str]:
        """The prompt of each of the n responses, in its language (the last message of a multi-turn prompt)."""
        first = self.prompts.take(pa.array(self.prompt_rows[self.starts]))
        return last_contents(first, "prompt").take(pa.array(self.group)).to_pylist()

    def prompt_messages_of(self, rows: np.ndarray) -> list[str | list[dict[str, str]]]:
        """The whole prompts of the samples with these numbers: texts, or lists of messages with role and content."""
        first = self.prompt_rows[self.starts][self.group[rows]]
        prompts = self.prompts.take(pa.array(first)).to_pylist()
        return [p if isinstance(p, str) else [{"role": m["role"], "content": m["content"]} for m in p] for p in prompts]

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) int64 characters of each response."""
        return pc.fill_null(pc.utf8_length(self.responses), 0).to_numpy(zero_copy_only=False).astype(np.int64)

    @cached_property
    def answers(self) -> np.ndarray:
        """(n,) int32 codes of the final answers (see `answers.extract_answers`), −1 where none was found."""
        names = [self.languages[code] for code in self.language.tolist()]
        return answer_codes(extract_answers(self.texts, names, self.prompt_texts, self._answer_kind))

    @property
    def answered(self) -> np.ndarray:
        """(P,) bool: at least half of the prompt's usable English samples have a final answer (of all its usable
        samples where none is English): the question is one with a final answer."""
        english, found = self.is_english & self.usable, self.answers >= 0
        count = [np.bincount(self.prompt[mask], minlength=self.n_prompts)
                 for mask in (english, english & found, self.usable, self.usable & found)]  # fmt: skip
        return np.where(count[0] > 0, 2 * count[1] >= count[0], (count[2] > 0) & (2 * count[3] >= count[2]))

    @property
    def is_english(self) -> np.ndarray:
        """(n,) bool."""
        return self.language == self.english

    @property
    def reference_rows(self) -> np.ndarray:
        """(n,) int64: the row of the reference of each sample's prompt, −1 where there is none."""
        return self.reference[self.prompt]

    @property
    def reference_texts(self) -> list[str]:
        """The reference response of each of the n samples; "" where there is none."""
        rows = self.reference_rows
        return [self.texts[row] if row >= 0 else "" for row in rows.tolist()]

    @cached_property
    def vector_table(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(m, d) float32 vectors and the (n,) rows the samples have in it (`None`: row i is sample i's).

        Given vectors are used as they are; else each distinct text is encoded once.
        """
        if self._vectors is not None:
            return self._vectors, self.order
        if self._encode is None:
            raise DataError("model: this reward needs embeddings. Give a model, or vectors (embeddings).")
        codes, distinct = codes_of(pc.fill_null(self.responses, ""), "response")
        return np.asarray(self._encode(distinct.to_pylist()), np.float32), codes

    @property
    def embeddings(self) -> np.ndarray:
        """(n, d) float32 vectors of the samples, in their order."""
        vectors, rows = self.vector_table
        return vectors if rows is None else vectors[rows]

    def language_means(self) -> np.ndarray:
        """(L, d) mean vector of each language, see `consistency.language_means`."""
        if self.pool_means:
            return self.pool_means[0]
        table, rows = self.vector_table
        return language_means(table, self.language, len(self.languages), rows)

    def english_mean(self, samples: np.ndarray) -> np.ndarray:
        """(d,) mean vector of these English samples, all usable ones."""
        if self.pool_means:
            return self.pool_means[1]
        table, rows = self.vector_table
        return language_means(table, np.zeros(len(samples), int), 1, samples if rows is None else rows[samples])[0]

    def uniform(self, *seed: int) -> np.ndarray:
        """(n,) random numbers in [0, 1) that depend on the seed and on each sample's prompt id, language and number
        only, not on the other samples or their order."""
        import xxhash

        key = ",".join(str(int(part)) for part in seed)

        def hashes(names: list) -> np.ndarray:
            texts = [f"{name}\0{key}".encode("utf-8", "surrogatepass") for name in names]
            return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts))

        prompts, languages = hashes(self.prompt_ids.to_pylist()), hashes(self.languages)
        own = _mixed(languages[self.language] + self.sample.astype(np.uint64))
        return (_mixed(prompts[self.prompt] ^ own) >> np.uint64(11)) * 2.0**-53

    def vectors_of(self, samples: np.ndarray) -> np.ndarray:
        """(k, d) vectors of the samples with these numbers."""
        vectors, rows = self.vector_table
        return vectors[samples if rows is None else rows[samples]]


def read_samples(
    ds: Dataset,
    column_mapping: Mapping[str, str] | None = None,
    *,
    embeddings: Any = None,
    encode: Callable[[list[str]], np.ndarray] | None = None,
    answer_kind: str = "auto",
    languages: Sequence[str] | None = None,
) -> Samples:
    """Read `ds` (one row per sample, or one row per prompt with a list of responses) into `Samples`.

    Args:
        ds: columns id, language, prompt, and response or responses, see `ROLES`.
        column_mapping: your column → role.
        embeddings: (n, d) vectors of the samples in the order of `ds` (of the flattened lists); wins over a column
            "embedding" of `ds`.
        encode: function from n texts to (n, d) vectors, used when no vectors are given.
        languages: ISO 639-1 codes that the language codes count, where the rows are a part of a larger pool.
    Raises:
        DataError: missing, doubly present or wrongly typed columns, missing ids or languages, duplicate sample ids.
    """
    check_dataset(ds, empty="There are no samples to compare. Check the split and the filters.")
    roles = sample_roles(ds.column_names, column_mapping)
    responses, counts = read_responses(ds, roles)
    repeat = (lambda values: values) if counts is None else (lambda values: np.repeat(values, counts))
    prompt, prompt_ids = codes_of(arrow_column(ds, roles["id"]), roles["id"])
    language, names = language_codes(named_column(ds, roles["language"]), roles["language"])
    if languages is not None:
        language, names = np.array([languages.index(name) for name in names], np.int32)[language], list(languages)
    prompts = arrow_column(ds, roles["prompt"])
    check_prompts(prompts, roles["prompt"])
    last_contents(prompts, roles["prompt"])
    sample = _sample_numbers(ds, roles, (prompt, language, prompt_ids, names))
    rows = None if counts is None else np.repeat(np.arange(len(ds)), counts)
    truncated = None
    if "finish_reason" in roles:
        reasons = _one_per_response(ds, roles["finish_reason"], counts, "entry")
        if is_text(reasons.type):
            truncated = pc.fill_null(pc.equal(reasons, "length"), False).to_numpy(zero_copy_only=False)
    return Samples(
        repeat(prompt), repeat(language), names, responses, prompts, prompt_ids=prompt_ids, prompt_rows=rows,
        sample=sample, truncated=truncated,
        vectors=given_vectors(ds, roles.get("embedding"), counts, embeddings, len(responses)), encode=encode,
        answer_kind=answer_kind,
    )  # fmt: skip


def sample_roles(columns: list[str], column_mapping: Mapping[str, str] | None = None) -> dict[str, str]:
    """Role → column, with either "response" (one row per sample) or "responses" (lists).

    Raises:
        DataError: a needed one is missing, a role is unknown, or both forms of responses are there.
    """
    remedy = "e.g. question_id=id,answer=response"
    roles = find_roles(columns, ROLES, column_mapping, needed=("id", "language", "prompt"), remedy=remedy)
    forms = [role for role in ("response", "responses") if role in roles]
    if not forms:
        raise DataError(
            f"No column for response (or responses). Columns found: {listed(columns)}. Map yours with "
            f"--column-mapping (column_mapping), {remedy}."
        )
    if len(forms) == 2:
        mapped = [role for role in forms if roles[role] in (column_mapping or {})]
        if not mapped and roles["response"] == "answer":
            mapped = ["responses"]  # beside sampled responses, the answer is the right one
        if len(mapped) != 1:
            raise DataError(
                f"Both {roles['response']!r} (one row per sample) and {roles['responses']!r} (lists) are in the data. "
                f"Say which one to read with --column-mapping (column_mapping), e.g. {roles['responses']}=responses."
            )
        roles.pop("responses" if mapped == ["response"] else "response")
    return roles


def check_prompts(prompts: pa.Array, column: str, row_of: Callable[[int], int] = int) -> None:
    """DataError unless these are texts or lists of messages, none of them missing; `row_of`: place → row to name."""
    if not (is_text(prompts.type) or is_messages(prompts.type)):
        raise DataError(f"Column {column!r} holds {prompts.type}, not texts or role/content messages.")
    if prompts.null_count:
        row = row_of(int(np.argmax(prompts.is_null().to_numpy(zero_copy_only=False))))
        raise DataError(f"Column {column!r}, row {row}: missing. Fill it in or drop such rows.")


def read_responses(ds: Dataset, roles: dict[str, str]) -> tuple[pa.Array, np.ndarray | None]:
    """(n,) texts of the responses of all rows, and how many each row has where it has a list of them."""
    column = roles.get("response") or roles["responses"]
    values = arrow_column(ds, column)
    counts = None
    if "responses" in roles:
        values, counts = flatten_lists(values, column)
        if pa.types.is_struct(values.type):
            raise DataError(f"Column {column!r} holds one message list per row; map it to the role response instead.")
    elif is_list(values.type) and not is_messages(values.type):
        raise DataError(f"Column {column!r} holds {values.type}; map it to the role responses if these are samples.")
    return last_contents(values, column), counts


def _sample_numbers(ds: Dataset, roles: dict[str, str], keys: tuple) -> np.ndarray | None:
    """(n,) int32 numbers of a sample column, if they are whole numbers that differ within each prompt and language.

    Raises:
        DataError: a sample occurs twice, or a prompt has two lists in one language; those of different models (column
            "model") may.
    """
    prompt, language, prompt_ids, names = keys
    group, models, n_models = prompt.astype(np.int64) * len(names) + language, 0, 1
    if "model" in roles:
        models, distinct = codes_of(pc.fill_null(arrow_column(ds, roles["model"]), ""), roles["model"])
        n_models = len(distinct)
    key, values = group * n_models + models, None
    if "responses" not in roles and "sample" in roles:
        values = arrow_column(ds, roles["sample"])
        numbers, distinct = codes_of(values, roles["sample"])
        key = key * len(distinct) + numbers
    elif "responses" not in roles:
        return None
    order = np.argsort(key, kind="stable")
    again = order[1:][np.diff(key[order]) == 0]
    if len(again):
        row = int(again.min())
        where = f"of prompt {prompt_ids[prompt[row]].as_py()!r} in {names[language[row]]!r}"
        if values is None:
            raise DataError(
                f"Column {roles['responses']!r}, row {row}: responses {where} were there before ({len(again):,} such "
                "rows). Join the lists or drop such rows."
            )
        raise DataError(
            f"Column {roles['sample']!r}, row {row}: sample {distinct[numbers[row]].as_py()!r} {where} was there "
            f"before ({len(again):,} such rows). Drop duplicates, or give every sample its own id."
        )
    if values is None or not pa.types.is_integer(values.type):
        return None
    shared = n_models > 1 and len(np.unique(group * len(distinct) + numbers)) < len(group)
    small = pc.max(values).as_py() < 2**31 and pc.min(values).as_py() >= 0
    return values.to_numpy().astype(np.int32) if small and not shared else None


def given_vectors(ds, column, counts, embeddings: Any, n: int) -> np.ndarray | None:
    """(n, d) float32 vectors of the n responses, as given or from a column."""
    if embeddings is not None:
        array = as_table(embeddings)
        if len(array) != n:
            raise DataError(f"embeddings has shape {array.shape} for {n:,} samples; pass one row per sample")
        return finite_vectors(array)
    if column is None:
        return None
    return matrix(_one_per_response(ds, column, counts, "vector"), column)


def _one_per_response(ds, column: str, counts, what: str):
    """The column's values, one per response; `counts`: how long the lists of responses are, where there are lists."""
    values = arrow_column(ds, column)
    if counts is None:
        return values
    values, own = flatten_lists(values, column)
    if not np.array_equal(own, counts):
        raise DataError(f"Column {column!r}, row {int(np.argmax(own != counts))}: one {what} per response is needed.")
    return values


def _mixed(values: np.ndarray) -> np.ndarray:
    """uint64 numbers, each bit of which depends on all bits of the given ones (splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _take(values: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    return values if order is None else values[order]
