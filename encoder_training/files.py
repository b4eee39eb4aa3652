"""The encoder on disk, its held-out figures and its model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from encoder_training.config import EncoderConfig
    from encoder_training.parallel_text import Group, Sources

STATIC_EMBEDDING = "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"
NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"
CANDIDATES = 1000


def quantise(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight-bit rows (n, d) int8 and their factors (n,) float32, whose product is `table` to half a step per row."""
    factors = np.maximum(np.abs(table).max(axis=1), 1e-12).astype(np.float32) / 127
    return np.rint(table / factors[:, None]).astype(np.int8), factors


def save_encoder(table: np.ndarray, tokenizer: Tokenizer, folder: str | Path, card: str = "") -> Path:
    """Writes a folder that `SentenceTransformer(folder)` opens: StaticEmbedding with eight-bit rows, then Normalize.

    sentence-transformers multiplies the rows by their factors when it loads them; in memory the table is float32.
    """
    from safetensors.numpy import save_file

    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    rows, factors = quantise(np.asarray(table, dtype=np.float32))
    save_file({"embeddings": rows, "weights": factors}, root / "model.safetensors")
    (root / "model.safetensors").chmod(0o644)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(root / "tokenizer.json"), pretty=False)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": STATIC_EMBEDDING},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": NORMALIZE},
    ]
    (root / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", "utf-8")
    (root / "1_Normalize").mkdir(exist_ok=True)
    (root / "1_Normalize" / "config.json").write_text("{}\n", "utf-8")
    settings = {"model_type": "SentenceTransformer", "prompts": {}, "default_prompt_name": None,
                "similarity_fn_name": "cosine"}  # fmt: skip
    (root / "config_sentence_transformers.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    (root / "README.md").write_text(card, "utf-8")
    return root


def embed(texts: Sequence[str], table: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """(n, d) float32 unit vectors as the saved model computes them; zero for a text without tokens."""
    vectors = np.zeros((len(texts), table.shape[1]), np.float32)
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        if encoding.ids:
            vectors[row] = table[encoding.ids].mean(axis=0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def retrieval_accuracy(
    groups: Sequence[Group], distractors: Sequence[str], table: np.ndarray, tokenizer: Tokenizer, fewest: int = 15
) -> dict[str, float]:
    """Top-1 by language: how often a text's nearest English candidate is its own translation, in [0, 1].

    Args:
        groups: held-out groups; the English text of each is a candidate.
        distractors: more English candidates, up to 1,000 candidates in all.
        table: token vectors.
        tokenizer: its tokenizer.
        fewest: languages with fewer texts are left out.
    """
    own = list(dict.fromkeys(group["en"] for group in groups if "en" in group))
    more = [text for text in dict.fromkeys(distractors) if text not in set(own)]
    candidates = own + more[: max(0, CANDIDATES - len(own))]
    english = embed(candidates, table, tokenizer)
    position = {text: at for at, text in enumerate(candidates)}
    figures = {}
    for language in sorted({language for group in groups for language in group} - {"en"}):
        texts = [group for group in groups if language in group and "en" in group]
        if len(texts) >= fewest:
            found = (embed([group[language] for group in texts], table, tokenizer) @ english.T).argmax(axis=1)
            figures[language] = float(np.mean(found == [position[group["en"]] for group in texts]))
    return figures


def held_out_figures(
    held: Sources, train: Sources, table: np.ndarray, tokenizer: Tokenizer
) -> dict[str, dict[str, float]]:
    """`retrieval_accuracy` of every held-out source, with training texts of the same source as distractors."""
    return {
        name: retrieval_accuracy(
            groups, [group["en"] for group in train.get(name, []) if "en" in group], table, tokenizer
        )
        for name, groups in held.items()
    }


def figures_table(figures: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table: one row per language, one column per source, means in the last row."""
    names = list(figures)
    languages = sorted({language for by_language in figures.values() for language in by_language})
    lines = ["| language | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for language in languages:
        cells = [f"{figures[n][language]:.2f}" if language in figures[n] else "" for n in names]
        lines.append(f"| {language} | " + " | ".join(cells) + " |")
    means = [f"{np.mean(list(figures[n].values())):.3f}" if figures[n] else "" for n in names]
    return "\n".join([*lines, "| **mean** | " + " | ".join(means) + " |"])


def model_card(
    figures: dict[str, dict[str, float]], sources: Sources, config: EncoderConfig, used_held_out: bool
) -> str:
    """The README of the model folder."""
    from encoder_training.card import CARD, SOURCES_AND_LICENCES
    from encoder_training.catalogues import LANGUAGES

    settings = {name: value for name, value in vars(config).items() if name != "source_weights"}
    remark = "This model was trained without these texts."
    if used_held_out:
        remark = "**This model was trained on these texts**; see docs/appendix/encoder.md for a model that was not."
    return CARD.format(
        languages=", ".join(LANGUAGES),
        vocabulary=config.vocabulary,
        dimension=config.dimension,
        remark=remark,
        figures=figures_table(figures),
        settings=", ".join(f"{name} {value}" for name, value in settings.items()),
        sources=SOURCES_AND_LICENCES,
        counts=", ".join(f"{name} {len(groups):,}" for name, groups in sources.items()),
    )
