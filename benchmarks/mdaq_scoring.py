"""Claim: scoring through `ds.map` takes at most 1.3 times what `SentenceTransformer.encode` takes for the same texts.

    python benchmarks/mdaq_scoring.py

Both sides get the same distinct texts: an instruction and a response per row, no repeats. For the bundled model, and
for a 12-layer transformer built from a config (random weights, bundled tokenizer).
"""

import argparse
import tempfile
from pathlib import Path

import torch
from common import interleaved, made_up_texts, report
from datasets import Dataset, disable_progress_bars
from sentence_transformers import SentenceTransformer

from hf_mlalign.mdaq.quality.scorer import QualityScorer
from hf_mlalign.mdaq.scorer import MDaQScorer
from hf_mlalign.models.encoder import BUNDLED


def transformer_folder(folder: Path, layers: int = 12, width: int = 384) -> Path:
    """A BERT-like encoder with random weights, saved as a sentence-transformers model."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(BUNDLED / "encoder" / "tokenizer.json"), pad_token="<pad>", unk_token="<unk>",
        model_max_length=128,
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=12,
                        intermediate_size=4 * width)  # fmt: skip
    BertModel(config).save_pretrained(folder / "hf")
    tokenizer.save_pretrained(folder / "hf")
    module = Transformer(str(folder / "hf"))
    SentenceTransformer(modules=[module, Pooling(width)]).save(str(folder / "st"))
    return folder / "st"


def compare(name: str, rows: int, scorer: MDaQScorer, bare: SentenceTransformer, batch_size: int, repeats: int) -> None:
    """Time both sides on `rows` made-up pairs."""
    texts = made_up_texts(2 * rows)
    ds = Dataset.from_dict({"prompt": texts[:rows], "response": texts[rows:]})
    map_batch = max(1000, min(rows, 10_000))

    def through_map():
        scorer._memories.clear()
        ds.map(scorer, batched=True, batch_size=map_batch, load_from_cache_file=False)

    def bare_encode():
        bare.encode(texts, batch_size=batch_size, show_progress_bar=False)

    scorer.scorer.score(texts[:2], texts[2:4])
    bare.encode(texts[:64])
    seconds = interleaved({"map": through_map, "encode": bare_encode}, repeats)
    report("scoring", model=name, rows=rows, texts=2 * rows, seconds_map=round(seconds["map"], 3),
           seconds_encode=round(seconds["encode"], 3), texts_per_second=round(2 * rows / seconds["map"]),
           ratio=round(seconds["map"] / seconds["encode"], 3))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--transformer-rows", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    disable_progress_bars()
    for batch_size in (1024, 8192):
        bare = SentenceTransformer(str(BUNDLED / "encoder"))
        compare(f"bundled, bare batch {batch_size}", options.rows, MDaQScorer(), bare, batch_size, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        path = str(transformer_folder(Path(folder)))
        scorer = MDaQScorer(QualityScorer.load(path))
        compare(
            "12-layer transformer", options.transformer_rows, scorer, SentenceTransformer(path), 32, options.repeats
        )


if __name__ == "__main__":
    main()
