"""The Space: paste the texts of a selection and of its pool, see how diverse the selection is."""

from pathlib import Path

import evaluate
import gradio as gr

EXAMPLE = "How do I bake bread?\nHow do I bake rye bread?\nName three rivers in Africa."

measurement = evaluate.load(str(Path(__file__).with_name("selection_diversity.py")))


def compute(selection: str, pool: str) -> dict:
    """All figures of a selection, one text a line; with a pool also its coverage."""
    data, around = ([line for line in text.splitlines() if line.strip()] for text in (selection, pool))
    try:
        return measurement.compute(data=data, pool=around or None)
    except ValueError as error:
        raise gr.Error(str(error)) from error


demo = gr.Interface(
    compute,
    [
        gr.Textbox(EXAMPLE, lines=8, label="Selected texts, one a line"),
        gr.Textbox("", lines=8, label="Pool they were selected from (optional), one a line"),
    ],
    gr.JSON(label="Diversity"),
    title="Selection diversity",
    description="Vendi score, nearest neighbours and clusters covered. Part of hf_mlalign.",
)

if __name__ == "__main__":
    demo.launch()
