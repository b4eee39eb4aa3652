"""How well samples agree: within one prompt and language, and across languages with a reference.

All functions work on flat arrays with integer group codes, in blocks that fit the processor's cache; no loop runs over
prompts or pairs. Results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import cached_blocks
from hf_mlalign.core.validation import (
    as_array,
    as_codes,
    as_vectors,
    check_list,
    check_whole,
    one_blas_thread,
    unit_rows,
)
from hf_mlalign.data.answers.extract import answer_spans

if TYPE_CHECKING:
    from hf_mlalign.models.encoder import Encoder


BLOCK = 2048
MEAN_ROWS = 4_000


def self_consistency(
    embeddings: Any, groups: Any, means: np.ndarray | None = None, rows: np.ndarray | None = None
) -> np.ndarray:
    """Mean cosine of each sample with its siblings (CM-Align, step 1), from one product of each group with itself.

    Args:
        embeddings: (n, d) numbers; need not be unit vectors. A zero vector has cosine 0 with all others.
        groups: (n,) integers, equal for samples of one prompt and language.
        means: (d,) vector that is subtracted first (see `language_means`).
        rows: (n,) rows of `embeddings` the n samples have (default: all, in order).
    Returns:
        (n,) float32 in [−1, 1]; NaN for a sample without siblings.
    Raises:
        DataError: other shapes, NaN or infinity in `embeddings`.
    """
    vectors = _vectors(embeddings)
    n = len(vectors) if rows is None else len(rows)
    groups = as_codes(groups, n, "groups")
    out = np.full(n, np.nan, np.float32)
    if not n:
        return out
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(starts, append=len(order))
    with one_blas_thread(), _naming_bad_rows(vectors, rows):
        for size in np.unique(sizes):
            first, step = starts[sizes == size], max(1, BLOCK // int(size))
            for begin in range(0, len(first), step):
                members = order[first[begin : begin + step, None] + np.arange(size)]
                block = vectors[members if rows is None else rows[members]]
                out[members] = _mean_cosines(block if means is None else block - means)
    return out


def _mean_cosines(block: np.ndarray) -> np.ndarray:
    """(g, m) mean cosines of the rows of a (g, m, d) block with the other m − 1 rows of their group."""
    with np.errstate(invalid="ignore", over="ignore"):
        gram = np.matmul(block, block.transpose(0, 2, 1))
    norms = np.sqrt(np.einsum("gmm->gm", gram))
    _check_finite(norms)
    if block.shape[1] == 1:
        return np.full(norms.shape, np.nan, np.float32)
    scale = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    total = np.einsum("gij,gi,gj->gi", gram, scale, scale) - (norms > 0)
    return np.clip(total / (block.shape[1] - 1), -1, 1)


def cross_consistency(
    embeddings: Any,
    references: Any,
    prompts: Any,
    *,
    rows: np.ndarray | None = None,
    languages: np.ndarray | None = None,
    means: np.ndarray | None = None,
) -> np.ndarray:
    """Cosine of each sample with the reference of its prompt (CM-Align, step 2).

    Args:
        embeddings: (m, d) numbers.
        references: (P, d) numbers, one reference per prompt; a row of NaN where a prompt has none.
        prompts: (n,) integers in [0, P).
        rows: (n,) rows of `embeddings` the n samples have (default: n = m, in order).
        languages, means: (n,) integers in [0, L) and (L, d) means to subtract from the samples first; the references
            must be centred already.
    Returns:
        (n,) float32 in [−1, 1]; NaN where a prompt has no reference.
    """
    vectors, references = _vectors(embeddings), as_vectors(references, "references")
    n = len(vectors) if rows is None else len(rows)
    if references.shape[1] != vectors.shape[1]:
        raise DataError(f"references has shape {references.shape}; pass (prompts, {vectors.shape[1]}), as embeddings")
    infinite = np.flatnonzero(np.isinf(references).any(1))
    if len(infinite):
        raise DataError(f"references, row {infinite[0]}: holds infinity; give NaN where a prompt has no reference")
    prompts = as_codes(prompts, n, "prompts", below=len(references))
    units = unit_rows(references)
    per_prompt = _regular(prompts, len(references))
    pattern = None  # (samples per prompt, d) means to subtract, if all prompts have the same sequence of languages
    if means is not None and per_prompt is not None:
        same = (languages.reshape(-1, per_prompt) == languages[:per_prompt]).all()
        pattern = means[languages[:per_prompt]] if same else None
    out = np.empty(n, np.float32)
    step = BLOCK if per_prompt is None else max(1, BLOCK // per_prompt) * per_prompt
    buffer = np.empty((min(step, n), vectors.shape[1]), np.float32)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        block = vectors[part] if rows is None else np.take(vectors, rows[part], axis=0, out=buffer[: part.stop - start])
        if pattern is not None:
            shape = (-1, *pattern.shape)
            np.subtract(block.reshape(shape), pattern, out=buffer[: len(block)].reshape(shape))
            block = buffer[: len(block)]
        elif means is not None:
            block = np.subtract(block, means[languages[part]], out=buffer[: len(block)])
        with _naming_bad_rows(vectors, rows):
            own = prompts[part]
            if per_prompt is None:
                dots = np.einsum("nd,nd->n", block, units[own])
            else:
                cube = block.reshape(-1, per_prompt, block.shape[1])
                dots = np.einsum("pnd,pd->pn", cube, units[own[0] : own[0] + len(cube)]).ravel()
            norms = np.sqrt(np.einsum("nd,nd->n", block, block))
            _check_finite(norms)
            np.divide(dots, norms, out=dots, where=norms > 0)
            out[part] = np.clip(dots, -1, 1)
    return out


def _check_finite(numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise FloatingPointError


@contextmanager
def _naming_bad_rows(vectors: np.ndarray, rows: np.ndarray | None) -> Iterator[None]:
    """A DataError that names the first row of the samples whose length is not finite."""
    try:
        yield
    except FloatingPointError:
        used = np.arange(len(vectors)) if rows is None else np.sort(rows)
        for row in used.tolist():
            with np.errstate(over="ignore"):
                finite = np.isfinite(vectors[row] @ vectors[row])
            if not finite:
                break
        raise DataError(f"embeddings has NaN or infinity, or numbers too large to square, first in row {row}; give "
                        "finite numbers for every sample, or drop its row") from None  # fmt: skip


def language_means(embeddings: Any, languages: Any, n_languages: int, rows: np.ndarray | None = None) -> np.ndarray:
    """(L, d) float32 mean vector of each language, from at most 4,000 evenly spaced samples of each (*ours*)."""
    check_whole(n_languages, "n_languages")
    vectors = _vectors(embeddings)
    languages = as_codes(languages, len(vectors) if rows is None else len(rows), "languages", below=n_languages)
    means = np.zeros((n_languages, vectors.shape[1]), np.float32)
    for code in range(n_languages):
        found = np.flatnonzero(languages == code)
        if len(found):
            found = spaced(found)
            means[code] = vectors[found if rows is None else rows[found]].mean(axis=0, dtype=np.float64)
    with _naming_bad_rows(vectors, rows):
        _check_finite(means)
    return means


def spaced(rows: np.ndarray) -> np.ndarray:
    """At most 4,000 of the rows, evenly spaced; the first and the last are among them."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MEAN_ROWS)).astype(int)]


def _vectors(embeddings: Any) -> np.ndarray:
    vectors = as_vectors(embeddings)
    if not vectors.shape[1]:
        raise DataError(f"embeddings has shape {vectors.shape}; pass vectors of one number or more")
    return vectors


def agreement(answers: Any, prompts: Any, voters: Any) -> np.ndarray:
    """Share of the voters of a prompt that give a sample's answer.

    Args:
        answers: (n,) integer codes, −1 for a sample without answer (which agrees with nobody and does not vote).
        prompts: (n,) integers.
        voters: (n,) bool: the samples whose answers count, e.g. the English ones.
    Returns:
        (n,) float64 in [0, 1]; NaN where none of the prompt's voters has an answer. Voters without an answer count in
        the share, too.
    """
    check_list(answers, "answers")
    answers = as_codes(answers, len(answers), "answers", least=-1)
    prompts = np.unique(as_codes(prompts, len(answers), "prompts"), return_inverse=True)[1]
    voters = as_array(voters, "voters")
    if voters.shape != answers.shape or voters.dtype.kind not in "biu":
        raise DataError(f"voters has shape {voters.shape} and dtype {voters.dtype}; pass {len(answers)} bools")
    voters = voters.astype(bool)
    n_prompts = int(prompts.max(initial=-1)) + 1
    width = int(answers.max(initial=-1)) + 1
    keys, counts = np.unique(
        prompts[voters & (answers >= 0)].astype(np.int64) * width + answers[voters & (answers >= 0)], return_counts=True
    )
    wanted = prompts.astype(np.int64) * width + answers
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    hit = (answers >= 0) & (keys[place] == wanted) if len(keys) else np.zeros(len(answers), bool)
    votes = np.where(hit, counts[place], 0) if len(keys) else np.zeros(len(answers))
    total = np.bincount(prompts[voters], minlength=n_prompts)[prompts]
    answered = np.bincount(prompts[voters & (answers >= 0)], minlength=n_prompts)[prompts]
    return np.divide(votes, total, out=np.full(len(answers), np.nan), where=answered > 0)


def _regular(prompts: np.ndarray, n_prompts: int) -> int | None:
    """Samples per prompt if `prompts` is 0…0 1…1 2…2 … with equally many of each, else `None`."""
    if not n_prompts or not len(prompts) or len(prompts) % n_prompts:
        return None
    size = len(prompts) // n_prompts
    same = (prompts.reshape(n_prompts, size) == np.arange(n_prompts, dtype=prompts.dtype)[:, None]).all()
    return size if same and size <= BLOCK else None


MAX_SPAN = 200
"""Characters of a marked answer that are encoded (*ours*)."""


KEPT_TEXTS = 512
"""Texts whose vectors are kept at a time, where they are kept (*ours*)."""


def encode_responses(
    encoder: Encoder, texts: Sequence[str], spans: bool = True, folder: Path | None = None
) -> np.ndarray:
    """(n, d) unit vectors of n texts; with spans (n, 2d): [vector of the text, vector of its marked answer] / √2.

    A text without a marked answer ("Answer: …" at the start of a line, in any of the languages) repeats its own vector,
    so that its cosines are those of the whole texts. Nothing is appended when no text marks an answer.

    With a folder, the vectors are kept there as they come, and a second call takes up where a killed one stopped; only
    for encoders that can tell their content (`content_hash`).
    """
    whole = unit_rows(_encoded(encoder, list(texts), folder))
    marked = answer_spans(texts) if spans else [""]
    rows = np.flatnonzero([bool(span) for span in marked])
    if not len(rows):
        return whole
    known: dict[str, int] = {}
    place = [known.setdefault(marked[row][:MAX_SPAN], len(known)) for row in rows]
    answers = whole.copy()
    answers[rows] = unit_rows(_encoded(encoder, list(known), folder))[place]
    return np.concatenate([whole, answers], axis=1) / np.float32(np.sqrt(2))


def _encoded(encoder: Encoder, texts: list[str], folder: Path | None) -> np.ndarray:
    content = getattr(encoder, "content_hash", None)
    if folder is None or content is None:
        return np.asarray(encoder.encode(texts), np.float32)
    blocks = [slice(start, start + KEPT_TEXTS) for start in range(0, len(texts), KEPT_TEXTS)]
    out = np.empty((len(texts), encoder.dimension), np.float32)
    return cached_blocks(blocks, lambda block: encoder.encode(texts[block]), out, folder, ("vectors", content, texts))
