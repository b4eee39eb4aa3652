"""The Space: paste preferences, see the win rate in each language with its interval."""

from pathlib import Path

import evaluate
import gradio as gr

COLUMNS = ["prompt_id", "language", "preference"]
EXAMPLE = [[str(i // 2), ["de", "sw"][i % 2], [1, 1, 0.5, 0][i % 4]] for i in range(40)]

metric = evaluate.load(str(Path(__file__).with_name("winrate.py")))


def compute(rows: list[list]) -> dict:
    """All figures of the rows; an empty preference was not judged."""
    rows = [row for row in rows if all(str(cell).strip() for cell in row[:2])]
    try:
        ids, languages, preferences = zip(*rows, strict=True)
        numbers = [float(value) if str(value).strip() else None for value in preferences]
        return metric.compute(predictions=numbers, languages=list(languages), prompt_ids=list(ids))
    except ValueError as error:
        raise gr.Error(str(error)) from error


demo = gr.Interface(
    compute,
    gr.Dataframe(EXAMPLE, headers=COLUMNS, type="array", label="One comparison per row: 1 a win, 0.5 a tie, 0 a loss"),
    gr.JSON(label="Win rates, per cent"),
    title="Win rate",
    description="How often is a model preferred to a baseline, in every language, and how sure is that? "
    "Part of hf_mlalign.",
)

if __name__ == "__main__":
    demo.launch()
