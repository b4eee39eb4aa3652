"""Where languages are in the layers of a model: pooled hidden states, their principal components, distances from
English, and cross-lingual retrieval."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_array, as_list, is_missing, one_blas_thread, shown, unit_rows
from hf_mlalign.data.languages import check_languages, known_code
from hf_mlalign.spontaneous.lens.hidden_states import (
    Layers,
    by_length,
    check_batch_size,
    check_prompts,
    evaluating,
    token_ids,
)
from hf_mlalign.spontaneous.lens.result import Geometry

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["mean", "last"]
TIE = 1e-6
"""Cosines that differ by no more than this are a tie (*ours*): identical states differ by rounding."""
_BLOCK = 1024


def pca(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    languages: Sequence[str],
    ids: Sequence[Hashable] | None = None,
    *,
    english: str = "en",
    pooling: Pooling = "mean",
    components: int = 2,
    axes: Geometry | None = None,
    batch_size: int = 16,
    max_length: int | None = None,
    store: str | Path | None = None,
) -> Geometry:
    """Hidden states by layer and language: projected to a plane, with measures of how far languages are from English.

    `hidden_states` followed by `geometry`; see there.

    Args:
        model: a decoder-only causal LM, PEFT-wrapped or not.
        tokenizer: of the model.
        texts: (n,) texts.
        languages: (n,) their languages.
        ids: (n,) same id = same text in another language; needed for retrieval.
        english: the language to compare with ("en", *paper*).
        pooling: "mean" over the tokens of a text (*ours*) or "last" token.
        components: dimensions of the projection (2, *paper*).
        axes: an earlier result whose axes are used, so that two pictures can be compared point by point.
        batch_size: texts per batch (16, *ours*).
        max_length: cut texts to this many tokens; default: longer than the context is an error.
        store: file (.npy) that holds the states instead of memory.
    Raises:
        DataError: bad input.
    """
    texts = check_prompts(texts, "texts")
    codes, numbers = _check_rows(len(texts), languages, ids, english)
    states = hidden_states(model, tokenizer, texts, pooling=pooling, batch_size=batch_size, max_length=max_length,
                           store=store)  # fmt: skip
    return geometry(states, codes, numbers, english=english, components=components, axes=axes)


def hidden_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    pooling: Pooling = "mean",
    batch_size: int = 16,
    max_length: int | None = None,
    store: str | Path | None = None,
) -> np.ndarray:
    """(layers, n, width) float32: the embedding output and each block's output (before the final norm), pooled.

    The mean is taken over the tokens of the text, without padding and without special tokens: the state of a
    beginning-of-sequence token is hundreds of times as long as others in many models and would drown them. "last" is
    the last token of the text. Only pooled states are kept, one batch at a time; with `store` they go
    to a file and memory holds one batch.

    Args and errors: as `pca`.
    """
    import torch

    if pooling not in ("mean", "last"):
        raise DataError(f"pooling: {pooling!r} is not known. Use 'mean' or 'last'.")
    check_batch_size(batch_size)
    layers = Layers(model)
    layers.check_tokenizer(tokenizer)
    texts, context, special = check_prompts(texts, "texts"), layers.context, set(tokenizer.all_special_ids)
    if max_length is not None and max_length < 1:
        raise DataError(f"max_length: {max_length} is not positive.")
    rows = [ids[:max_length] for ids in token_ids(tokenizer, texts)]
    kept = []  # which tokens of each text are pooled
    for i, ids in enumerate(rows):
        if context is not None and len(ids) > context:
            raise DataError(f"texts, row {i}: {len(ids)} tokens, the context of the model has {context}. "
                            f"Cut with max_length={context}.")  # fmt: skip
        inside = [j for j, token in enumerate(ids) if token not in special]
        if not inside:
            raise DataError(f"texts, row {i}: the tokenizer makes no token of it but special ones.")
        kept.append(inside if pooling == "mean" else inside[-1:])
    states = None
    with evaluating(model):
        for batch in by_length(rows, batch_size, "hidden states"):
            weights = torch.zeros((len(batch), max(len(rows[i]) for i in batch)))  # each row adds up to 1
            for at, i in enumerate(batch):
                weights[at, kept[i]] = 1 / len(kept[i])
            pool = lambda h, w=weights: (w.to(h.device)[:, None] @ h.float())[:, 0]  # noqa: E731
            found, _ = layers.forward([rows[i] for i in batch], pool, None)
            found = np.stack([state.cpu().numpy() for state in found])
            if states is None:
                shape = len(found), len(rows), found.shape[2]
                if store is None:
                    states = np.empty(shape, dtype=np.float32)
                else:
                    Path(store).parent.mkdir(parents=True, exist_ok=True)
                    states = np.lib.format.open_memmap(store, mode="w+", dtype=np.float32, shape=shape)
            states[:, batch] = found
    return states


def geometry(
    states: np.ndarray,
    languages: Sequence[str],
    ids: Sequence[Hashable] | None = None,
    *,
    english: str = "en",
    components: int = 2,
    axes: Geometry | None = None,
) -> Geometry:
    """Principal components, distances from English and retrieval of (layers, n, width) states, layer by layer.

    *Projection:* the leading principal components of all rows of a layer together, from the exact eigenvectors of
    the smaller Gram matrix in float64; each axis points to where its largest weight is positive. No randomness.

    *Distance:* ‖μ_x − μ_en‖₂ of the means of a language's rows and of the English rows, and the same in units of the
    spread within the languages, √((σ²_x + σ²_en) / 2), where σ² is the mean squared distance of a language's rows to
    their mean; 1 means that the two lie as far apart as their texts are scattered. NaN where the spread is 0.

    *Retrieval* (needs `ids`): share of a language's texts whose nearest English text, by cosine among those of the
    ids both have, has the same id (`to_english`), and of English texts whose nearest text in the language has
    (`from_english`). A tie of k counts 1/k. `centred` is the same after the mean of each language is taken away:
    what is left when languages differ by a shift alone. Chance is 1/n.

    Args:
        states: of `hidden_states`; a memory map is read one layer at a time.
        languages, ids, english, components, axes: as `pca`.
    """
    states = as_array(states, "states")
    if states.ndim != 3 or not states.size or states.dtype.kind not in "fiu":
        raise DataError(f"states has the shape {states.shape} and dtype {states.dtype}; give numbers, (layers, rows, "
                        "width).")  # fmt: skip
    codes, ids = _check_rows(states.shape[1], languages, ids, english)
    english = known_code(english, "english")
    n, width = states.shape[1:]
    if not isinstance(components, Integral) or not 1 <= components <= min(n, width):
        raise DataError(f"components: {components} is not between 1 and {min(n, width)} (rows and width).")
    if axes is not None and axes.axes.shape != (len(states), components, width):
        raise DataError(f"axes: made for the shape {axes.axes.shape}, not {(len(states), components, width)}.")
    names = tuple(sorted(set(codes), key=lambda code: (code != english, code)))
    members = {name: np.flatnonzero([code == name for code in codes]) for name in names}
    pairs = {}  # rows of a language and of English with the same ids, in one order
    if ids is not None:
        where = {ids[row]: row for row in members[english]}
        for name in names:
            common = [row for row in members[name] if ids[row] in where]
            pairs[name] = np.array(common, dtype=int), np.array([where[ids[row]] for row in common], dtype=int)
    parts = []
    with one_blas_thread():
        for i in range(len(states)):
            rows = np.asarray(states[i], dtype=np.float64)
            if not np.isfinite(rows).all():
                raise DataError(f"states, layer {i}: not finite. Load the model in another dtype, e.g. float32.")
            given = None if axes is None else (axes.centres[i].astype(float), axes.axes[i].astype(float))
            parts.append({**_project(rows, components, given), **_numbers(rows, members, pairs, english)})
    stacked = {name: np.stack([part[name] for part in parts]).astype(np.float32) for name in parts[0]}
    pairs_each = np.array([len(pairs[name][0]) if pairs else 0 for name in names])
    return Geometry(**stacked, names=names, languages=tuple(codes), english=english, pairs=pairs_each)


def _check_rows(n: int, languages, ids, english: str) -> tuple[list[str], list | None]:
    """Checked languages and ids; every row has both, no id twice in a language, English among the languages."""
    codes = check_languages(languages, "languages")
    english = known_code(english, "english")
    ids = None if ids is None else as_list(ids, "ids")
    for name, values in (("languages", codes), ("ids", ids)):
        if values is not None and len(values) != n:
            raise DataError(f"{name} has {len(values)} entries for {n} texts. Give one per text.")
    if english not in codes:
        raise DataError(f"languages: there is no {english!r} to compare with. Found: {listed(sorted(set(codes)))}.")
    if ids is not None:
        seen: dict = {}
        for row, key in enumerate(zip(codes, ids, strict=True)):
            if is_missing(key[1]) or not isinstance(key[1], Hashable):
                raise DataError(f"ids, row {row}: {shown(key[1])}. Give a text or whole number.")
            if key in seen:
                raise DataError(f"ids, row {row}: {key[1]!r} in {key[0]!r} is already in row {seen[key]}. Drop one.")
            seen[key] = row
    return codes, None if ids is None else list(ids)


def _project(rows: np.ndarray, k: int, given: tuple[np.ndarray, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Coordinates (n, k), the axes and centre they belong to, and the share of the variance along each axis."""
    from scipy.linalg import eigh

    centre, axes = given or (rows.mean(axis=0), None)
    around = rows - rows.mean(axis=0)
    if axes is None:  # the orthonormal leading axes of the centred rows
        n, width = around.shape
        gram = around @ around.T if n < width else around.T @ around
        _, vectors = eigh(gram, subset_by_index=[len(gram) - k, len(gram) - 1])
        raw = around.T @ vectors[:, ::-1] if n < width else vectors[:, ::-1]
        axes = np.linalg.qr(raw)[0].T  # also orthonormal where the variance along an axis is nought
        largest = np.argmax(np.abs(axes), axis=1)
        axes = axes * np.sign(axes[np.arange(k), largest])[:, None]
    total = np.einsum("nd,nd->", around, around)
    along = ((around @ axes.T) ** 2).sum(axis=0)
    explained = along / total if total > 0 else np.zeros(k)
    return {"points": (rows - centre) @ axes.T, "axes": axes, "centres": centre, "explained": explained}


def _numbers(rows: np.ndarray, members: dict, pairs: dict, english: str) -> dict[str, np.ndarray]:
    means = {name: rows[where].mean(axis=0) for name, where in members.items()}
    spread = {name: ((rows[where] - means[name]) ** 2).sum(axis=1).mean() for name, where in members.items()}
    distance = np.array([np.linalg.norm(means[name] - means[english]) for name in members])
    unit = np.sqrt([(spread[name] + spread[english]) / 2 for name in members])
    scaled = np.divide(distance, unit, out=np.full(len(unit), np.nan), where=unit > 0)
    whole = ((rows - rows.mean(axis=0)) ** 2).sum()
    within = sum(spread[name] * len(where) for name, where in members.items())
    found = {"distance": distance, "distance_in_spreads": scaled,
             "between_share": np.array(1 - within / whole if whole > 0 else np.nan)}  # fmt: skip
    for suffix, centred in (("", False), ("_centred", True)):
        both = np.full((len(members), 2), np.nan)
        for at, name in enumerate(members):
            if pairs and len(pairs[name][0]):
                a, b = (rows[where] - centred * rows[where].mean(axis=0) for where in pairs[name])
                a, b = unit_rows(a), unit_rows(b)
                both[at] = _top1(a, b), _top1(b, a)
        found |= {f"to_english{suffix}": both[:, 0], f"from_english{suffix}": both[:, 1]}
    return found


def _top1(queries: np.ndarray, items: np.ndarray) -> float:
    """Share of queries whose most similar item is the one of the same index; a tie of k counts 1/k."""
    hits = 0.0
    for begin in range(0, len(queries), _BLOCK):
        similar = queries[begin : begin + _BLOCK] @ items.T
        near = similar >= similar.max(axis=1, keepdims=True) - TIE
        own = near[np.arange(len(near)), np.arange(begin, begin + len(near))]
        hits += float((own / near.sum(axis=1)).sum())
    return hits / len(queries)
