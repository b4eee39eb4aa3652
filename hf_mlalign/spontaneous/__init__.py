"""Spontaneous multilingual alignment (arXiv 2405.13816): question translation, classification, lenses."""

from hf_mlalign import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "BuilderOptions": "hf_mlalign.spontaneous.options",
        "ClassificationResult": "hf_mlalign.spontaneous.classification.result",
        "ClassifyOptions": "hf_mlalign.spontaneous.options",
        "Geometry": "hf_mlalign.spontaneous.lens.result",
        "LensOptions": "hf_mlalign.spontaneous.options",
        "LensResult": "hf_mlalign.spontaneous.lens.result",
        "Lenses": "hf_mlalign.spontaneous.lens.run",
        "QuestionResult": "hf_mlalign.spontaneous.questions.builder",
        "QuestionTranslationBuilder": "hf_mlalign.spontaneous.questions.builder",
        "QuestionTranslator": "hf_mlalign.spontaneous.questions.translator",
        "QuestionsOptions": "hf_mlalign.spontaneous.options",
        "ScoringOptions": "hf_mlalign.spontaneous.options",
        "Task": "hf_mlalign.spontaneous.classification.tasks",
        "accuracy_table": "hf_mlalign.spontaneous.classification.stats",
        "build_questions": "hf_mlalign.spontaneous.questions.build",
        "check_labels": "hf_mlalign.spontaneous.classification.label_tokens",
        "classify": "hf_mlalign.spontaneous.classification.evaluate",
        "curves": "hf_mlalign.spontaneous.lens.plots",
        "draw_shots": "hf_mlalign.spontaneous.classification.few_shot",
        "evaluate_classification": "hf_mlalign.spontaneous.classification.evaluate",
        "geometry": "hf_mlalign.spontaneous.lens.distances",
        "heatmap": "hf_mlalign.spontaneous.lens.plots",
        "hidden_states": "hf_mlalign.spontaneous.lens.distances",
        "load_task": "hf_mlalign.spontaneous.classification.tasks",
        "logit_lens": "hf_mlalign.spontaneous.lens.answers",
        "pca": "hf_mlalign.spontaneous.lens.distances",
        "run_lens": "hf_mlalign.spontaneous.lens.run",
        "scatter": "hf_mlalign.spontaneous.lens.plots",
        "task_names": "hf_mlalign.spontaneous.classification.tasks",
    },
)
