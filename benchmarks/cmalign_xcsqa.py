"""How often references, chosen and rejected samples are right for every reward, on XCSQA samples with known answers
(CALM), and which models X-AlpacaEval's references, chosen and rejected responses come from. Gold answers only measure.

    python benchmarks/cmalign_xcsqa.py DATA_FOLDER [--model ENCODER] [--output docs/appendix/cmalign-evidence.md]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.cmalign.samples import Samples
from hf_mlalign.data.answers.extract import extract_answers
from hf_mlalign.hub.card import markdown_table
from hf_mlalign.models.encoder import load_encoder

LANGUAGES = ("de", "fr", "it", "ja", "zh")
INTRODUCTION = """# Evidence: consistency rewards on real samples

Does a reward choose right answers and reject wrong ones? To measure it again:

```bash
python benchmarks/cmalign_xcsqa.py DATA_FOLDER --output docs/appendix/cmalign-evidence.md
```

The gold answers are used to measure only; no reward sees them. How to use the rewards: [CM-Align](../cmalign.md)."""
BY_HAND = "## What helped the reward `embedding`"
"""From this heading on, the page is written by hand and kept."""
FREE = {"max_length_ratio": None, "require_language": False, "drop_same_answer": False}
RUNS = [
    ("random", {"reward": "random"}),
    ("length", {"reward": "length"}),
    ("first_english", {"reward": "first_english"}),
    ("embedding, whole texts, not centred",
     {"reward": "embedding", "answer_spans": False, "reward_options": {"centre": False}}),
    ("embedding, whole texts, centred", {"reward": "embedding", "answer_spans": False}),
    ("embedding, with answer spans, not centred", {"reward": "embedding", "reward_options": {"centre": False}}),
    ("embedding (default: spans, centred)", {"reward": "embedding"}),
    ("vote", {"reward": "vote"}),
    ("answer", {"reward": "answer"}),
    ("auto", {"reward": "auto"}),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", help="encoder; default the bundled one")
    parser.add_argument("--output", type=Path, help="Markdown file to write; default: print")
    args = parser.parse_args()
    run(args.data, Remember(load_encoder(args.model)), args.output)


def run(data: Path, encoder, output: Path | None) -> None:
    """Both tables, printed or written."""
    parts = [*xcsqa(data, encoder), *alpaca(data, encoder)]
    text = "\n\n".join([INTRODUCTION, *parts]) + "\n"
    if output is None:
        print(text)
        return
    found = output.read_text().partition(BY_HAND) if output.exists() else ("", "", "")
    output.write_text(text + "".join(["\n", *found[1:]] if found[1] else []))


class Remember:
    """An encoder that encodes each text once over all runs."""

    def __init__(self, encoder):
        self.encoder, self.dimension, self._known = encoder, encoder.dimension, {}

    def encode(self, texts) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def xcsqa(data: Path, encoder) -> list[str]:
    """Accuracy tables on xcsqa_samples."""
    table = pd.read_parquet(data / "xcsqa_samples.parquet")
    table["prompt"] = table.instruction + "\n" + table.input
    rows = table.explode("samples", ignore_index=True)
    ds = Dataset.from_dict(
        {
            "prompt_id": rows.id.tolist(),
            "language": rows.language.tolist(),
            "prompt": rows.prompt.tolist(),
            "response": rows.samples.tolist(),
        }
    )
    answers = extract_answers(rows.samples.tolist(), rows.language.tolist(), rows.prompt.tolist())
    right = np.array([a == g for a, g in zip(answers, rows.gold, strict=True)])
    found = pd.Series([a is not None for a in answers]).groupby(rows.language).mean()
    everything = [_xcsqa_row(name, options, ds, right, encoder, FREE) for name, options in RUNS]
    kept = [
        ("auto, default guards", {"reward": "auto"}),
        ("auto, drop_same_answer=False", {"reward": "auto", "drop_same_answer": False}),
        ("auto, min_reference_consistency=0.8", {"reward": "auto", "min_reference_consistency": 0.8}),
        ("auto, all_pairs", {"reward": "auto", "policy": "all_pairs"}),
        ("auto, best_random", {"reward": "auto", "policy": "best_random"}),
        ("embedding, default guards", {"reward": "embedding"}),
        ("random, default guards", {"reward": "random"}),
    ]
    guarded = [_xcsqa_row(name, options, ds, right, encoder, {}) for name, options in kept]
    return [
        f"## XCSQA: {rows.id.nunique()} questions, 6 samples per language\n\nSamples with a final answer: "
        + ", ".join(f"{code} {share:.1%}" for code, share in found.items())
        + f". A random English sample is right in {right[rows.language == 'en'].mean():.1%} of cases.",
        "The columns of a language show how often chosen / rejected samples are right; *chosen*, *rejected* and "
        "*margin* (their difference) are means over the languages, and *reference* is how often the English reference "
        "is right.",
        "Without filters: every prompt makes a pair. Where all samples have the same score, the first and the last "
        "one count as the pair.",
        _table(everything),
        "With filters:",
        _table(guarded),
    ]


def _table(rows: list[dict]) -> str:
    return markdown_table(rows, {name: name for name in rows[0]})


def _xcsqa_row(name: str, options: dict, ds: Dataset, right: np.ndarray, encoder, guards: dict) -> dict:
    builder = CMAlignPreferenceBuilder(model=encoder, **{**guards, **options})
    builder.build(ds)
    result = builder.result_
    samples = result.samples
    right = right if samples.order is None else right[samples.order]
    chosen, rejected = _every_group(result) if guards else (result.chosen, result.rejected)
    codes = samples.language[chosen]
    reference = samples.reference[samples.reference >= 0]
    row = {"reward": name, "reference": f"{right[reference].mean():.3f}" if len(reference) else "–"}
    gaps = []
    for language in LANGUAGES:
        mine = codes == samples.languages.index(language)
        good, bad = right[chosen[mine]].mean(), right[rejected[mine]].mean()
        gaps.append((good, bad))
        row[language] = f"{good:.3f} / {bad:.3f}"
    good, bad = np.mean(gaps, axis=0)
    row |= {"chosen": f"{good:.3f}", "rejected": f"{bad:.3f}", "margin": f"{good - bad:.3f}", "pairs": len(chosen)}
    return row


def _every_group(result) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst of every group, also where the pair guards drop them."""
    from hf_mlalign.cmalign.pairs import choose_pairs

    samples = result.samples
    scores = np.where(samples.is_english, np.nan, np.nan_to_num(result.scores, nan=-1.0))
    return choose_pairs("best_worst", scores, samples.group, np.zeros(len(samples)))


def alpaca(data: Path, encoder) -> list[str]:
    """Which models the pairs come from, on x_alpacaeval_responses (languages with several models)."""
    rows = pd.read_parquet(data / "x_alpacaeval_responses.parquet")
    rows = rows[rows.language.isin(["en", "de", "es", "fr", "ru"])]
    ds = Dataset.from_dict(
        {
            "prompt_id": rows.id.tolist(),
            "language": rows.language.tolist(),
            "prompt": rows.prompt.tolist(),
            "response": rows.response.tolist(),
        }
    )
    tables = []
    for reward in ("auto", "random", "length"):
        builder = CMAlignPreferenceBuilder(reward, model=encoder)
        builder.build(ds)
        result = builder.result_
        samples: Samples = result.samples
        model = rows.model.to_numpy() if samples.order is None else rows.model.to_numpy()[samples.order]
        reference = samples.reference[samples.reference >= 0]
        shares = {
            "reference": pd.Series(model[reference]).value_counts(normalize=True),
            "chosen": pd.Series(model[result.chosen]).value_counts(normalize=True),
            "rejected": pd.Series(model[result.rejected]).value_counts(normalize=True),
            "mean characters": pd.Series(samples.lengths).groupby(model).mean(),
        }
        frame = pd.DataFrame(shares).fillna(0).round(3)
        frame["mean characters"] = [f"{value:,.0f}" for value in frame["mean characters"]]
        frame.insert(0, "reward", reward)
        ratio = result.per_language()["length_ratio_chosen"].drop("en").round(2).to_dict()
        shown = ", ".join(f"{language} {value}" for language, value in ratio.items())
        tables += [_table(frame.rename_axis("model").reset_index().to_dict("records")),
                   f"Length of chosen to rejected texts with `{reward}`: {shown}. {result.summary()}"]  # fmt: skip
    question = "Whose responses become the reference, chosen and rejected? Shares of four models, by reward."
    return ["## X-AlpacaEval: 644 prompts, 4 models, en de es fr ru", question, *tables]


if __name__ == "__main__":
    main()
