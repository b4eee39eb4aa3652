"""The encoder's tokenizer: a Unigram model over folded text, trained on equal shares of every language."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from encoder_training.parallel_text import Sources

SCORE_DECIMALS = 3
DELIMITER = "\x01"
SHARES = {"ko": 2.0, "th": 1.5, "ar": 1.5, "hi": 1.5, "ru": 1.5, "zh": 0.5, "id": 0.7, "it": 0.7}
"""More text for languages that have many word forms or share no pieces with the others (*ours*)."""
TECHNICAL = frozenset(("interface", "help", "browser", "names"))


def tokenizer_corpus(sources: Sources, chars_per_language: int, seed: int = 0) -> list[str]:
    """Up to this many characters of every language, drawn from the sources in turn so that none dominates.

    Software texts (`TECHNICAL`) contribute a third as much as the others.
    """
    texts: dict[str, list[tuple[int, list[str]]]] = {}
    for name in sorted(sources):
        by_language: dict[str, list[str]] = {}
        for group in sources[name]:
            for language, text in group.items():
                by_language.setdefault(language, []).append(text[:1000])
        for language, found in by_language.items():
            random.Random(f"{seed}{name}{language}").shuffle(found)
            texts.setdefault(language, []).append((3 if name in TECHNICAL else 1, found))
    corpus = []
    for language in sorted(texts):
        corpus += _round_robin(texts[language], int(chars_per_language * SHARES.get(language, 1)))
    return corpus


def _round_robin(piles: list[tuple[int, list[str]]], budget: int) -> list[str]:
    """Texts from the piles, always from the one that has contributed the fewest characters so far."""
    taken, given = [], [0] * len(piles)
    positions = [0] * len(piles)
    while budget > 0:
        open_piles = [at for at in range(len(piles)) if positions[at] < len(piles[at][1])]
        if not open_piles:
            break
        at = min(open_piles, key=given.__getitem__)
        cost, text = piles[at][0], piles[at][1][positions[at]]
        positions[at] += 1
        given[at] += cost * len(text)
        budget -= len(text)
        taken.append(text)
    return taken


def train_tokenizer(corpus: list[str], vocabulary: int, folding: bool = True) -> Tokenizer:
    """A Unigram tokenizer with at most `vocabulary` pieces; no truncation, no padding.

    Args:
        corpus: training texts.
        vocabulary: number of pieces, `<pad>` and `<unk>` included.
        folding: apply `encoder_training.folding.folding_rules` before splitting.
    """
    import sentencepiece
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = build_normalizer(folding)
    tokenizer.pre_tokenizer = build_pre_tokenizer()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(_split_line(text, tokenizer) for text in corpus), model_writer=model,
        vocab_size=vocabulary, model_type="unigram", character_coverage=0.9995, num_threads=1,
        normalization_rule_name="identity", pretokenization_delimiter=DELIMITER, pad_id=0, unk_id=1, bos_id=-1,
        eos_id=-1, pad_piece="<pad>", unk_piece="<unk>", max_sentencepiece_length=16, minloglevel=2,
        hard_vocab_limit=False, shuffle_input_sentence=False, max_sentence_length=1 << 16,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    scored = [(pieces.id_to_piece(at), round(pieces.get_score(at), SCORE_DECIMALS)) for at in range(len(pieces))]
    tokenizer.model = models.Unigram(scored, unk_id=1)
    return tokenizer


def _split_line(text: str, tokenizer: Tokenizer) -> str:
    """Folded text with a delimiter at each boundary inside a word, so that no piece crosses one."""
    folded = tokenizer.normalizer.normalize_str(" ".join(text.split()))
    return "".join(
        piece.replace("▁", " ") if piece.startswith("▁") else DELIMITER + piece
        for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(folded)
    ).strip()


def build_pre_tokenizer():
    """Words, numbers, punctuation marks, runs of Han and of Hiragana apart; a word starts with "▁"."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Split(Regex(r"\p{Han}+|\p{Hiragana}+"), "isolated"),
        ]
    )


def build_normalizer(folding: bool):
    """NFKC and lower case, then, with `folding`, the character map of `folding_rules`."""
    from tokenizers import normalizers

    steps = [normalizers.NFKC(), normalizers.Lowercase()]
    if folding:
        from encoder_training.folding import charsmap

        steps.append(normalizers.Precompiled(charsmap()))
    return normalizers.Sequence(steps)
