"""Whether a model says the same in every language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_texts, finite_vectors
from hf_mlalign.data.languages import check_languages, known_code
from hf_mlalign.evaluation.metrics.agreement import (
    Agreement,
    Bootstrap,
    answer_agreement,
    answer_texts,
    embedding_agreement,
)
from hf_mlalign.evaluation.metrics.bootstrap import prompt_codes
from hf_mlalign.models.encoder import EmbeddingCache, load_encoder

if TYPE_CHECKING:
    from hf_mlalign.models.encoder import Encoder

__all__ = ["Agreement", "Bootstrap", "answer_agreement", "crosslingual_consistency", "embedding_agreement"]

_FIGURES = (("agreement", "kappa"), ("similarity", "similarity_corrected"))


def crosslingual_consistency(
    responses: Sequence[str | None] | None,
    languages: Sequence[str],
    prompt_ids: Sequence[Any],
    *,
    answers: Sequence[Any] | None = None,
    prompts: Sequence[str | None] | None = None,
    answer_kind: str = "auto",
    unread: str = "exclude",
    embeddings: bool = True,
    model: str | Encoder | None = None,
    pivot: str = "en",
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """How far a model says the same in every language: agreement of answers and of embeddings.

    Args:
        responses: n texts, or `None` to compare `answers` only. A missing one (`None` or blank) counts as unread and
            is left out of the similarities.
        languages: n languages (ISO codes or English names).
        prompt_ids: n ids; a prompt has the same id in all languages. Several samples of a prompt in one language are
            averaged.
        answers: n final answers, compared as texts; `None`, NaN or "" where there is none. Default: read from the
            responses by `hf_mlalign.data.answers.extract_answers`.
        prompts: n questions; where they list options, only those are read as answers.
        answer_kind: "auto", "choice" or "number", see `extract_answers`.
        unread: "exclude" or "disagree", see `answer_agreement`.
        embeddings: whether to compare embeddings (`True`).
        model: encoder; default: the bundled one.
        pivot: language that `per_language` and `…_with_pivot` compare with ("en").
        n_resamples, confidence, seed: bootstrap over prompts (1000, 0.95, 0, *ours*); 0 leaves the intervals out.
    Returns:
        `alpha`, `agreement`, `kappa`, `similarity`, `similarity_corrected`: means over the pairs of languages (alpha:
        over all), then `agreement_with_pivot` … over the pairs with the pivot, each with `…_ci_low` and `…_ci_high`;
        `n_responses`, `n_missing` (blank ones), `n_read`, `n_prompts`, `n_languages`, `pivot`; `per_language`: each
        against the pivot; `per_pair`: "de-en" → the same figures. NaN where a figure is undefined.
    Raises:
        DataError: lengths differ, a language or option is unknown, a prompt id is missing or a response no text (row
            named), or there is nothing to compare.
    """
    from hf_mlalign.data.answers.extract import check_kind, extract_answers

    check_kind(answer_kind, "answer_kind")
    bootstrap, pivot = Bootstrap(n_resamples, confidence, seed), known_code(pivot, "pivot")
    codes = check_languages(languages)
    if responses is None and answers is None:
        raise DataError("responses, answers: neither is given. Pass the texts, the final answers, or both.")
    responses, prompts = (
        values if values is None else as_texts(values, name, len(codes), "languages", missing=True)
        for name, values in (("responses", responses), ("prompts", prompts))
    )
    missing = np.zeros(len(codes), bool)
    if responses is not None:
        missing[:] = [not (text or "").strip() for text in responses]
    if answers is None:
        answers = extract_answers(responses, codes, prompts, answer_kind)
    answers = answer_texts(answers)
    said = answer_agreement(answers, codes, prompt_ids, unread=unread, bootstrap=bootstrap)
    meant = None
    if embeddings and responses is not None:
        vectors = np.zeros((len(codes), 1), np.float32)
        if len(there := np.flatnonzero(~missing)):
            encode = EmbeddingCache(load_encoder(model).encode)
            found = finite_vectors(encode([responses[i] for i in there]), "model", len(there))
            vectors = np.zeros((len(codes), found.shape[1]), np.float32)
            vectors[there] = found
        meant = embedding_agreement(vectors, codes, prompt_ids, bootstrap=bootstrap)
    read = np.asarray([a is not None for a in answers], bool)
    counts = {"n_responses": len(codes), "n_missing": int(missing.sum()), "n_read": int(read.sum()),
              "n_prompts": int(prompt_codes(prompt_ids).max()) + 1, "n_languages": len(set(codes)),
              "pivot": pivot}  # fmt: skip
    tables = _tables(said, meant, pivot, bootstrap, np.asarray(codes), read, missing)
    overall = bootstrap.interval(said.alpha, "alpha", said.n_compared, said.alpha_share)
    with_pivot = np.asarray([pivot in pair for pair in said.pairs])
    for suffix, chosen in (("", np.full(len(said.pairs), True)), ("_with_pivot", with_pivot)):
        for name, found, corrected, values in _figures(said, meant):
            known = np.isfinite(values[:, chosen])
            n, sums = known.sum(1), np.where(known, values[:, chosen], 0).sum(1)
            means, share = np.where(n > 0, sums / np.maximum(n, 1), np.nan), found.share(chosen, corrected)
            overall |= bootstrap.interval(means, f"{name}{suffix}", found.n_compared, share)
    return {**overall, **counts, **tables}


def _figures(said: Agreement, meant: Agreement | None) -> Iterator[tuple[str, Agreement, bool, np.ndarray]]:
    """Names, where they come from, whether they are corrected for chance, and (1 + R, pairs) values."""
    for found, names in zip((said, meant), _FIGURES):
        if found is not None:
            yield names[0], found, False, found.observed
            yield names[1], found, True, found.corrected


def _tables(
    said: Agreement,
    meant: Agreement | None,
    pivot: str,
    bootstrap: Bootstrap,
    codes: np.ndarray,
    read: np.ndarray,
    missing: np.ndarray,
) -> dict[str, dict]:
    per_pair: dict[str, dict[str, float]] = {}
    per_language = {
        c: {"n_responses": int((codes == c).sum()), "n_missing": int(missing[codes == c].sum()),
            "n_read": int(read[codes == c].sum())}
        for c in sorted(set(codes.tolist()))
    }  # fmt: skip
    for k, (first, second) in enumerate(said.pairs):
        common = int((meant or said).n_prompts[k])
        row: dict[str, float] = {"n_prompts": common, "n_prompts_read": int(said.n_prompts[k])}
        for name, found, corrected, values in _figures(said, meant):
            share = found.share(np.asarray([k]), corrected)
            row |= bootstrap.interval(values[:, k], name, int(found.n_prompts[k]), share)
        per_pair[f"{first}-{second}"] = row
        if pivot in (first, second):
            per_language[second if first == pivot else first] |= row
    return {"per_language": per_language, "per_pair": per_pair}
