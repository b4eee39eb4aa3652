"""The Space: paste answers in several languages, see how far they agree."""

from pathlib import Path

import evaluate
import gradio as gr

COLUMNS = ["prompt_id", "language", "response"]
EXAMPLE = [["1", "en", "Answer: A"], ["1", "de", "Antwort: A"], ["2", "en", "Answer: B"], ["2", "de", "Antwort: B"],
           ["3", "en", "Answer: C"], ["3", "de", "Antwort: A"]]  # fmt: skip

metric = evaluate.load(str(Path(__file__).with_name("crosslingual_consistency.py")))


def compute(rows: list[list[str]], pivot: str) -> dict:
    """All figures of the rows that have a response."""
    rows = [row for row in rows if all(str(cell).strip() for cell in row)]
    try:
        ids, languages, responses = zip(*rows, strict=True)
        return metric.compute(predictions=list(responses), languages=list(languages), prompt_ids=list(ids), pivot=pivot)
    except ValueError as error:
        raise gr.Error(str(error)) from error


demo = gr.Interface(
    compute,
    [
        gr.Dataframe(EXAMPLE, headers=COLUMNS, type="array", label="One response per row"),
        gr.Textbox("en", label="Language the others are compared with"),
    ],
    gr.JSON(label="Agreement"),
    title="Cross-lingual consistency",
    description="Do answers to one prompt agree across languages? Part of hf_mlalign.",
)

if __name__ == "__main__":
    demo.launch()
