"""Fine-tuning of a whole encoder with the paper's triplet loss, through the sentence-transformers trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_mlalign.mdaq.quality.accuracy import check_triplets
from hf_mlalign.models.loading import sentence_transformer


def finetune(
    encoder: str | Path,
    instructions: Sequence[str],
    positives: Sequence[str],
    negatives: Sequence[str],
    output: str | Path,
    *,
    epochs: float = 1.0,
    lr: float = 2e-5,
    epsilon: float = 0.3,
    batch_size: int = 16,
    max_length: int | None = 512,
    max_steps: int = -1,
    seed: int = 0,
    device: str | None = None,
) -> Path:
    """Train `encoder` as a bi-encoder with max(‖v_i − v_p‖₂ − ‖v_i − v_n‖₂ + ε, 0); returns the folder it is saved in.

    Vectors have unit length (a Normalize module is added if there is none), as everywhere in this package. Works under
    `accelerate launch`; then only the main process writes.

    Args:
        encoder: a sentence-transformers or Hugging Face encoder, name or folder.
        instructions, positives, negatives: n texts each.
        output: folder; `QualityScorer.load(output)` opens it.
        epochs, lr, batch_size: options of the trainer (*ours*; lr falls linearly after 10 % warm-up).
        epsilon: margin of the loss, 0.3 (*paper*).
        max_length: texts are cut after this many tokens; `None` for the model's own limit.
        max_steps: stop after this many steps; −1: after `epochs`.
        seed: for the order of the rows and dropout.
        device: "cpu" forces the CPU.
    Raises:
        DataError: the triplets are not n ≥ 1 non-blank texts each.
    """
    check_triplets(instructions, positives, negatives)
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss
    from sentence_transformers.sentence_transformer.modules import Normalize
    from transformers import set_seed

    set_seed(seed)
    model = sentence_transformer(str(encoder), device=device)
    if not any(isinstance(module, Normalize) for module in model):
        model.add_module(str(len(model)), Normalize())
    if max_length is not None and type(model[0]).__name__ != "StaticEmbedding":
        model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(Path(output) / "checkpoints"), num_train_epochs=epochs, max_steps=max_steps, learning_rate=lr,
        per_device_train_batch_size=batch_size, warmup_steps=0.1, lr_scheduler_type="linear", seed=seed, data_seed=seed,
        save_strategy="no", report_to="none", use_cpu=device == "cpu", disable_tqdm=True, logging_steps=50,
    )  # fmt: skip
    columns = {"anchor": list(instructions), "positive": list(positives), "negative": list(negatives)}
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=TripletLoss(model, distance_metric=TripletDistanceMetric.EUCLIDEAN, triplet_margin=epsilon),
    )
    trainer.train()
    if trainer.is_world_process_zero():
        Path(output).mkdir(parents=True, exist_ok=True)
        model.save_pretrained(str(output), create_model_card=False)
    trainer.accelerator.wait_for_everyone()
    return Path(output)
