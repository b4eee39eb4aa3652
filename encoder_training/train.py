"""Trains the bundled multilingual encoder: a table of token vectors, mean pooling, contrastive loss on parallel text.

    python -m encoder_training.train --data DATA --catalogues PACKAGES \\
        --extra dataset_scripts/parallel_text --output hf_mlalign/models/bundled/encoder
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from encoder_training.config import TERSE, EncoderConfig
from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from encoder_training.parallel_text import Sources

OPTIONS = ("vocabulary", "dimension", "steps", "batch", "learning_rate", "scale", "token_dropout", "seed", "threads")
LANGUAGE_WEIGHTS = {"id": 0.5, "it": 0.5, "zh": 0.5}


@dataclass
class Cell:
    """Pairs of one source between one language and English (or any other): text numbers (n, 2) and tokens per text."""

    source: str
    language: str
    pairs: np.ndarray
    mean_tokens: float


class TokenisedPairs:
    """All texts as token ids in one array, and the pairs to draw from.

    Args:
        sources: groups by source.
        tokenizer: see `encoder_training.tokenizer`.
        config: lengths and weights.
    """

    def __init__(self, sources: Sources, tokenizer: Tokenizer, config: EncoderConfig):
        self.config = config
        rows, numbered = _number_texts(sources)
        self.ids, self.starts, self.lengths = _tokenise(rows, tokenizer, config.max_tokens)
        self.cells = _build_cells(numbered, self.lengths)
        self.set_chances(config)

    def set_chances(self, config: EncoderConfig) -> None:
        """Use the lengths and weights of `config` for the next draws."""
        self.config = config
        late = {name: weight * (0.25 if name in TERSE else 1) for name, weight in config.source_weights.items()}
        self.chances = cell_chances(self.cells, config.source_weights, config.any_pair)
        self.late_chances = cell_chances(self.cells, late, config.any_pair)

    def draw(
        self, rng: np.random.Generator, late: bool = False
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """One batch (of the prose phase if `late`): (token ids, offsets) of its left and of its right texts."""
        counts = rng.multinomial(self.config.batch, self.late_chances if late else self.chances)
        left, right, sizes = [], [], []
        for cell, count in zip(self.cells, counts, strict=True):
            if not count:
                continue
            most = int(np.clip(round(self.config.target_tokens / cell.mean_tokens), 1, 12))
            size = rng.integers(1, most + 1, count) if most > 1 else np.ones(count, np.int64)
            rows = cell.pairs[rng.integers(0, len(cell.pairs), size.sum())]
            left.append(rows[:, 0])
            right.append(rows[:, 1])
            sizes.append(size)
        sizes = np.concatenate(sizes)
        return self._bag(np.concatenate(left), sizes, rng), self._bag(np.concatenate(right), sizes, rng)

    def _bag(self, rows: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        lengths = self.lengths[rows]
        owners = np.repeat(np.repeat(np.arange(len(sizes)), sizes), lengths)
        begins = np.cumsum(lengths) - lengths
        ids = self.ids[np.arange(lengths.sum()) + np.repeat(self.starts[rows] - begins, lengths)]
        if self.config.token_dropout:
            keep = rng.random(len(ids)) >= self.config.token_dropout
            keep[np.searchsorted(owners, np.arange(len(sizes)))] = True
            ids, owners = ids[keep], owners[keep]
        return ids, np.searchsorted(owners, np.arange(len(sizes)))


def _number_texts(sources: Sources) -> tuple[list[str], dict[tuple[str, str], list[tuple[int, int]]]]:
    rows: list[str] = []
    cells: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for name, groups in sources.items():
        for group in groups:
            number = {language: len(rows) + at for at, language in enumerate(group)}
            rows.extend(group.values())
            others = [language for language in group if language != "en"]
            if "en" in number:
                for language in others:
                    cells.setdefault((name, language), []).append((number[language], number["en"]))
            for a, b in zip(others, others[1:] + others[:1], strict=True):
                if a != b:
                    cells.setdefault((name, "any"), []).append((number[a], number[b]))
    return rows, cells


def _tokenise(texts: list[str], tokenizer: Tokenizer, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts, lengths = [], []
    for at in range(0, len(texts), 20_000):
        chunk = [text[: 5 * limit] for text in texts[at : at + 20_000]]
        for encoding in tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
            ids = encoding.ids[:limit]
            lengths.append(len(ids))
            parts.append(np.array(ids, dtype=np.int32))
    sizes = np.array(lengths, dtype=np.int64)
    return np.concatenate(parts), np.cumsum(sizes) - sizes, sizes


def _build_cells(numbered: dict[tuple[str, str], list[tuple[int, int]]], lengths: np.ndarray) -> list[Cell]:
    cells = []
    for (source, language), pairs in numbered.items():
        array = np.array(pairs, dtype=np.int64)
        array = array[(lengths[array] > 0).all(axis=1)]
        if len(array):
            cells.append(Cell(source, language, array, float(lengths[array].mean())))
    if not cells:
        raise DataError("data: no pair of texts in two languages. Pass --data, --catalogues or --extra with some.")
    return cells


def cell_chances(cells: list[Cell], source_weights: dict[str, float], any_pair: float) -> np.ndarray:
    """Probability of each cell.

    Languages have equal shares except for `LANGUAGE_WEIGHTS`; pairs without English have the share `any_pair`. Within a
    language, a cell's weight is the source weight times the square root of its tokens, with at most 25 per text.
    """
    raw = np.array([
        source_weights.get(cell.source, 1.0) * np.sqrt(len(cell.pairs) * min(cell.mean_tokens, 25.0))
        for cell in cells
    ])  # fmt: skip
    languages = sorted({cell.language for cell in cells} - {"any"})
    shares = {language: LANGUAGE_WEIGHTS.get(language, 1.0) for language in languages}
    if languages:
        shares["any"] = sum(shares.values()) * any_pair / (1 - any_pair)
    totals = {language: sum(raw[at] for at, c in enumerate(cells) if c.language == language) for language in shares}
    chances = np.array([shares[cell.language] * raw[at] / totals[cell.language] for at, cell in enumerate(cells)])
    return chances / chances.sum()


def train_table(
    pairs: TokenisedPairs, vocabulary: int, config: EncoderConfig, log: Callable[[str], None] = print
) -> torch.Tensor:
    """The token table, (vocabulary, dimension) float32, after `config.steps` steps of symmetric InfoNCE."""
    import torch

    torch.set_num_threads(config.threads)
    generator = torch.Generator().manual_seed(config.seed)
    table = torch.nn.Parameter(0.1 * torch.randn(vocabulary, config.dimension, generator=generator))
    optimiser = torch.optim.SparseAdam([table], lr=config.learning_rate)
    rng = np.random.default_rng(config.seed)
    begun = time.time()
    for step in range(config.steps):
        for settings in optimiser.param_groups:
            settings["lr"] = config.learning_rate * max(0.02, 1 - step / config.steps)
        late = step >= (1 - config.prose_phase) * config.steps
        left, right = (_embed(table, *side) for side in pairs.draw(rng, late))
        loss = contrastive_loss(left, right, config.scale)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 200 == 0:
            log(f"step {step + 1}: loss {loss.item():.3f}, {time.time() - begun:.0f} s")
    return table.detach()


def _embed(table: torch.Tensor, ids: np.ndarray, offsets: np.ndarray) -> torch.Tensor:
    import torch
    from torch.nn import functional

    bags = functional.embedding_bag(
        torch.from_numpy(ids).long(), table, torch.from_numpy(offsets).long(), mode="mean", sparse=True
    )
    return functional.normalize(bags, dim=1)


def contrastive_loss(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """Mean of the cross-entropies left → right and right → left over all cosines of the batch."""
    import torch
    from torch.nn import functional

    cosines = scale * left @ right.T
    target = torch.arange(len(left))
    return (functional.cross_entropy(cosines, target) + functional.cross_entropy(cosines.T, target)) / 2


def gather_sources(
    data: str | Path | None, catalogues: str | Path | None, extra: str | Path | None, log: Callable[[str], None] = print
) -> Sources:
    """All parallel text from the three places, reduced by `mixture.trim_sources`; each place is optional.

    Raises:
        DataError: no place is given.
    """
    from encoder_training.catalogues import read_catalogues
    from encoder_training.cldr import read_cldr
    from encoder_training.mixture import trim_sources
    from encoder_training.parallel_text import read_shared, read_tables

    if not (data or catalogues or extra):
        raise DataError("data: nothing to train on. Pass --data, --catalogues or --extra.")
    sources: Sources = {}
    if data:
        sources.update(read_shared(data))
    if catalogues:
        sources.update(read_catalogues(catalogues, log))
    if extra:
        sources.update(read_tables(extra))
    if catalogues:
        sources["cldr"] = read_cldr()
    return trim_sources({name: groups for name, groups in sources.items() if groups})


def fit(
    train: Sources, config: EncoderConfig, log: Callable[[str], None] = print, tokenizer: Tokenizer | None = None
) -> tuple[np.ndarray, Tokenizer]:
    """Tokenizer (trained unless given) and token table, (vocabulary, dimension) float32."""
    from encoder_training.tokenizer import tokenizer_corpus, train_tokenizer

    if tokenizer is None:
        words = {name: groups for name, groups in train.items() if name != "pivot"}
        corpus = tokenizer_corpus(words, config.chars_per_language, config.seed)
        tokenizer = train_tokenizer(corpus, config.vocabulary, config.folding)
        log(f"tokenizer: {tokenizer.get_vocab_size()} pieces")
    pairs = TokenisedPairs(train, tokenizer, config)
    log(f"training text: {len(pairs.lengths)} texts, {len(pairs.ids)} tokens")
    return train_table(pairs, tokenizer.get_vocab_size(), config, log).numpy(), tokenizer


def make_parser() -> argparse.ArgumentParser:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m encoder_training.train",
        description="Train the multilingual encoder from parallel text and write it as a sentence-transformers folder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    defaults = EncoderConfig()
    parser.add_argument("--data", help="folder of the Parquet files (expert_revisions.parquet, tatoeba.parquet, …)")
    parser.add_argument("--catalogues", help="folder with one unpacked package per subfolder")
    parser.add_argument("--extra", help="folder of *_sentences.tsv and *_lexicon.tsv")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--tokenizer", help="tokenizer.json to use instead of training one")
    parser.add_argument("--use-held-out", action="store_true",
                        help="train on the held-out texts too; the figures then describe a model trained without them "
                             "only if they come from a run without this option")  # fmt: skip
    for name in OPTIONS:
        default = getattr(defaults, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help="see EncoderConfig")
    return parser


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Reads, trains, prints held-out figures and writes the model folder; returns the figures."""
    from tokenizers import Tokenizer

    from encoder_training.files import figures_table, held_out_figures, model_card, save_encoder
    from encoder_training.parallel_text import hold_out, read_mgsm

    options = vars(make_parser().parse_args(arguments))
    places = {name: options.pop(name) for name in ("data", "catalogues", "extra")}
    output, use_held_out, given = (options.pop(name) for name in ("output", "use_held_out", "tokenizer"))
    config = EncoderConfig(**options)
    sources = gather_sources(**places)
    train, held = hold_out(sources, config.seed)
    table, tokenizer = fit(
        sources if use_held_out else train, config, tokenizer=Tokenizer.from_file(given) if given else None
    )
    if places["data"]:
        held["mgsm"] = read_mgsm(places["data"])
    figures = held_out_figures(held, train, table, tokenizer)
    print(figures_table(figures))
    save_encoder(table, tokenizer, output, model_card(figures, sources, config, use_held_out))
    return figures


if __name__ == "__main__":
    main()
