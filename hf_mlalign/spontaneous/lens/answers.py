"""The logit lens: which answer the model tends to after every block, and in which language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import check_languages, known_code
from hf_mlalign.spontaneous.lens.hidden_states import (
    LOGITS_PER_STEP,
    Layers,
    by_length,
    check_batch_size,
    check_prompts,
    evaluating,
    token_ids,
)
from hf_mlalign.spontaneous.lens.result import LensResult

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Answers = str | Sequence[str | Sequence[str] | None] | set[str] | frozenset[str]
"""Answers in one language: one text or a set of texts for all prompts, or a list with an entry per prompt (a text, a
list of texts that are equally right, or None where the prompt has no answer in this language)."""

Span = Literal["first", "word"]
_BEFORE = ("\n", ":", ".")
"""What a text is tokenised behind: the first of these that the tokenizer knows and keeps apart from the text."""
Branch = tuple[int, ...]
"""Tokens of an answer that stand between the prompt and the position looked at; () is the end of the prompt."""


def logit_lens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    targets: Mapping[str, Answers],
    languages: Sequence[str] | str | None = None,
    *,
    english: str = "en",
    span: Span = "first",
    batch_size: int = 8,
    add_special_tokens: bool = True,
) -> LensResult:
    """The probability of the answer in each language, read from every layer at the end of the prompt.

    With hₗ the state of the last prompt token after block l (l = 0: the embedding output), the lens reads
    pₗ = softmax(end(hₗ)), where `end` is what the model itself does after its last block (final norm, head, logit
    scale, soft cap), applied once. The probability of an answer is the sum of pₗ over its distinct first tokens, with
    and without a leading space (arXiv 2405.13816, figure of the logit lens) (*paper*); with `span="word"` the
    probability of all its tokens, Πⱼ pₗ(tⱼ | prompt, t₁ … tⱼ₋₁), summed over the spellings with and without the space.

    Only the positions looked at are projected on the vocabulary, at most 2²⁴ logits at a time. Prompts are padded on
    the right and masked: results do not depend on the batch but for rounding.

    Args:
        model: a decoder-only causal LM, as it is: any dtype, PEFT-wrapped, quantised or sharded.
        tokenizer: of the model; a padding token is not needed.
        prompts: (n,) texts that the answer follows directly.
        targets: answers by language, see `Answers`. The answer in the prompt's own language must be there; others, such
            as English, may be.
        languages: of the prompts, one for all or (n,). Default: the one language of `targets` that is not English.
        english: the language to compare with ("en", *paper*).
        span: "first" (*paper*) or "word".
        batch_size: prompts per batch (8, *ours*).
        add_special_tokens: let the tokenizer put its own before a prompt, such as a beginning-of-sequence token; False
            for prompts that hold them, e.g. from a chat template.
    Returns:
        (n, layers) probabilities with languages, entropies and top tokens, see `LensResult`.
    Raises:
        DataError: bad input; a prompt longer than the context; or the lens at the last layer is not equal to the
            model's own logits, so that the model cannot be read this way.
    """
    check_batch_size(batch_size)
    prompts = check_prompts(prompts, "prompts")
    layers = Layers(model)
    layers.check_tokenizer(tokenizer)
    wanted = AnswerTokens(tokenizer, len(prompts), targets, languages, english, span)
    encoded = token_ids(tokenizer, prompts, add_special_tokens)
    rows = _rows(encoded, wanted, layers.context)
    readings = _Readings(len(prompts), len(layers))
    with evaluating(model):
        for batch in by_length([encoded[i] + list(inner) for i, inner in rows], batch_size, "logit lens"):
            _read_probabilities(layers, [(rows[j], encoded[rows[j][0]]) for j in batch], wanted, readings)
    probabilities = np.full((*readings.entropy.shape, len(wanted.names)), np.nan, dtype=np.float32)
    for i, known in enumerate(readings.logp):
        for k, name in enumerate(wanted.names):
            if sequences := wanted.sequences[i][name]:
                terms = [sum(known[s[:j], s[j]] for j in range(len(s))) for s in sequences]
                probabilities[i, :, k] = np.exp(terms).sum(axis=0)
    top = np.unique(readings.top)
    texts = np.array(tokenizer.batch_decode([[token] for token in top.tolist()]), dtype=str)
    return LensResult(
        probabilities=np.minimum(probabilities, 1.0),
        entropy=readings.entropy,
        top_tokens=texts[np.searchsorted(top, readings.top)],
        overlap=wanted.overlap,
        names=wanted.names,
        languages=wanted.languages,
        english=wanted.english,
        span=span,
    )


class _Readings:
    """What was read: log-probabilities by prompt, branch and token; entropy and top token at the end of the prompt."""

    def __init__(self, n: int, n_layers: int):
        self.logp: list[dict[tuple[Branch, int], np.ndarray]] = [{} for _ in range(n)]
        self.entropy = np.full((n, n_layers), np.nan, dtype=np.float32)
        self.top = np.zeros((n, n_layers), dtype=np.int64)


def _rows(encoded: list[list[int]], targets: AnswerTokens, context: int | None) -> list[tuple[int, Branch]]:
    """(prompt, branch) of the inputs needed: for each prompt the longest branches of the trie of its answers."""
    rows = []
    for i, prompt in enumerate(encoded):
        if not prompt:
            raise DataError(f"prompts, row {i}: the tokenizer makes no token of it.")
        branches = sorted({s[:-1] for found in targets.sequences[i].values() for s in found})
        longest = [b for b in branches if not any(o != b and o[: len(b)] == b for o in branches)]
        length = len(prompt) + max(map(len, longest))
        if context is not None and length > context:
            raise DataError(
                f"prompts, row {i}: {length} tokens with the answer, and the context has {context}. Shorten it."
            )
        rows += [(i, branch) for branch in longest]
    return rows


def _read_probabilities(
    layers: Layers, batch: list[tuple[tuple[int, Branch], list[int]]], targets: AnswerTokens, out: _Readings
) -> None:
    """Run a batch of prompts and branches and take down what the lens shows at their positions."""
    import torch

    points, wanted = [], []
    for row, ((i, branch), prompt) in enumerate(batch):
        sequences = [s for found in targets.sequences[i].values() for s in found]
        for j in range(len(branch) + 1):
            tokens = sorted({s[j] for s in sequences if len(s) > j and s[:j] == branch[:j]})
            if tokens and (branch[:j], tokens[0]) not in out.logp[i]:
                points.append((row, len(prompt) + j - 1))
                wanted.append((i, branch[:j], tokens))
                out.logp[i].update({(branch[:j], token): np.empty(len(layers)) for token in tokens})
    if not points:
        return
    where = torch.tensor(points)
    keep = sorted(set(where[:, 1].tolist()))
    inputs = [prompt + list(branch) for (_, branch), prompt in batch]
    states, own = layers.forward(inputs, lambda h: h[where[:, 0].to(h.device), where[:, 1].to(h.device)], keep)
    own = own[where[:, 0], torch.searchsorted(torch.tensor(keep), where[:, 1].contiguous())]
    longest = max(len(tokens) for *_, tokens in wanted)
    tokens = torch.tensor([tokens + tokens[:1] * (longest - len(tokens)) for *_, tokens in wanted], device=own.device)
    n, last = len(wanted), len(states) - 1
    flat = torch.cat([state.to(states[-1].device) for state in states])
    step = max(1, LOGITS_PER_STEP // own.shape[-1])
    for begin in range(0, len(flat), step):
        logits = layers.end(flat[begin : begin + step]).to(own.device)
        at = torch.arange(begin, begin + len(logits), device=own.device)
        final = at // n == last
        _check_last(logits[final], own[at[final] % n], flat.dtype)
        logp = torch.log_softmax(logits.float(), dim=-1)
        entropy = torch.special.entr(logp.exp()).sum(-1).cpu().numpy()
        picked, top = logp.gather(1, tokens[at % n]).cpu().numpy(), logp.argmax(-1).cpu().numpy()
        for k, position in enumerate(at.tolist()):
            layer, (i, branch, ids) = position // n, wanted[position % n]
            for token, value in zip(ids, picked[k], strict=False):
                out.logp[i][branch, token][layer] = value
            if not branch:
                out.entropy[i, layer], out.top[i, layer] = entropy[k], top[k]


def _check_last(lens: torch.Tensor, own: torch.Tensor, dtype: torch.dtype) -> None:
    """DataError unless the two differ by rounding only: 1e-4 of the largest logit, in half precision 4 ulp of it."""
    import torch

    if not len(lens):
        return
    lens, own = lens.float(), own.float()
    if not bool(torch.isfinite(own.max(-1).values).all()):
        raise DataError("model: its own logits are not finite. Load it in another dtype, e.g. bfloat16 or float32.")
    finite = torch.isfinite(own)
    bound = max(1e-4, 4 * torch.finfo(dtype).eps) * max(1.0, float(own[finite].abs().max()))
    gap = float((lens - own)[finite].abs().max())
    if not gap <= bound:
        raise DataError(
            f"model: the lens at the last layer differs from its own logits by {gap:.3g} (allowed: {bound:.3g})."
            " This architecture's output is not made from the output of its last block alone; it cannot be read."
        )


class AnswerTokens:
    """Answers as token sequences.

    Attributes:
        names: languages of the answers, ISO 639-1, English first, then in alphabetical order.
        languages: (n,) the language of each prompt.
        sequences: for each prompt, for each name, the distinct token sequences that count as the answer. None of them
            begins with another one, so that their probabilities add up.
        overlap: (n, names) bool: the answer and the English one have a sequence in common, so that its probability is
            counted for both. False for English itself.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        targets: Mapping[str, Answers],
        languages: Sequence[str] | str | None,
        english: str,
        span: Span,
    ):
        if span not in ("first", "word"):
            raise DataError(f"span: {span!r} is not known. Use 'first' (first tokens) or 'word' (the whole answer).")
        if not isinstance(targets, Mapping) or not targets:
            raise DataError("targets: give a dict of languages and answers, e.g. {'de': ['ja'], 'en': ['yes']}.")
        english = known_code(english, "english")
        answers = {known_code(name, "targets"): _per_prompt(value, n, name) for name, value in targets.items()}
        self.english = english
        self.names = tuple(sorted(answers, key=lambda name: (name != english, name)))
        if languages is None:
            others = [name for name in self.names if name != english] or list(self.names)
            if len(others) > 1:
                raise DataError("languages: the targets are in several languages. Say which one each prompt is in.")
            languages = others[0]
        codes = check_languages([languages] * n if isinstance(languages, str) else languages, "languages")
        if len(codes) != n:
            raise DataError(f"languages has {len(codes)} entries for {n} prompts. Give one per prompt.")
        self.languages = tuple(codes)
        tokens: dict[str, set[tuple[int, ...]]] = {}
        self.sequences: list[dict[str, list[tuple[int, ...]]]] = [{} for _ in range(n)]
        for i, sequences in enumerate(self.sequences):
            for name in self.names:
                for text in answers[name][i]:
                    if text not in tokens:
                        tokens[text] = continuations(tokenizer, text, span)
                    if not tokens[text]:
                        raise DataError(f"targets[{name!r}], row {i}: the tokenizer has no tokens for {text!r}.")
                kept = sorted(set().union(*(tokens[text] for text in answers[name][i])))
                sequences[name] = [s for s in kept if not any(s != o and s[: len(o)] == o for o in kept)]
        missing = [i for i, code in enumerate(self.languages) if not self.sequences[i].get(code)]
        if missing:
            i = missing[0]
            raise DataError(f"targets: prompt {i} is in {self.languages[i]!r} and has no answer in this language. "
                            f"Add it to targets[{self.languages[i]!r}].")  # fmt: skip

        def shared(found: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> bool:
            return any(a[: len(b)] == b or b[: len(a)] == a for a in found for b in other)

        self.overlap = np.array([[name != english and shared(row[name], row.get(english, [])) for name in self.names]
                                 for row in self.sequences])  # fmt: skip


def continuations(tokenizer: PreTrainedTokenizerBase, text: str, span: Span = "first") -> set[tuple[int, ...]]:
    """Token sequences of `text` as it may follow a prompt, with and without a space before it.

    Each is read off the end of a line break (or ":") and the text, tokenised together: tokenised alone, some tokenizers
    put a space before the text that nobody wrote. Left out are variants with an unknown token and, with "first", which
    keeps the first token only, those that begin with white space alone: neither says anything about the answer.
    """

    def encode(part: str) -> list[int]:
        return tokenizer(part, add_special_tokens=False)["input_ids"]

    found = set()
    for spelling in (text.strip(), f" {text.strip()}"):
        ids = encode(spelling)
        for before in _BEFORE:
            stub, both = encode(before), encode(before + spelling)
            if both[: len(stub)] == stub and tokenizer.unk_token_id not in stub:
                ids = both[len(stub) :]
                break
        found.add(tuple(ids))
    if span == "first":
        found = {ids[:1] for ids in found if ids and tokenizer.decode([ids[0]]).strip("▁ \t\n")}
    return {ids for ids in found if ids and tokenizer.unk_token_id not in ids}


def _per_prompt(value: Answers, n: int, name: str) -> list[list[str]]:
    if isinstance(value, (str, set, frozenset)):
        rows: list = [sorted({value} if isinstance(value, str) else value)] * n
    else:
        rows = list(value)
    if len(rows) != n:
        raise DataError(
            f"targets[{name!r}] has {len(rows)} entries for {n} prompts. Give one per prompt (None where there is no "
            "answer), or a set of answers for all of them."
        )
    rows = [[] if row is None else [row] if isinstance(row, str) else list(row) for row in rows]
    for i, texts in enumerate(rows):
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"targets[{name!r}], row {i}: {text!r} is not an answer. Fill it in, or use None.")
    return rows
