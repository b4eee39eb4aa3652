"""Small preference datasets with English references, and quiet settings for training on one CPU."""

from __future__ import annotations

from datasets import Dataset

LANGUAGES = ("de", "ja", "en")


def preference_rows(n: int = 12, conversational: bool = True, without_reference: tuple[int, ...] = ()) -> Dataset:
    """n pairs with the builder's columns; margins 0.1, 0.2, …; languages de, ja, en in turn."""
    rows = []
    for i in range(n):
        language = LANGUAGES[i % 3]
        texts = {
            "prompt": f"{language} question {i}?", "chosen": f"good {language} {i}",
            "rejected": f"bad {language} {i * 7}", "reference_prompt": f"en question {i}?", "reference": f"good en {i}",
        }  # fmt: skip
        row = {k: messages(k, v) for k, v in texts.items()} if conversational else dict(texts)
        if i in without_reference:
            row["reference_prompt"] = row["reference"] = None
        rows.append({**row, "language": language, "prompt_id": i // 3, "margin": 0.1 * (i + 1)})
    return Dataset.from_list(rows)


def messages(column: str, text: str) -> list[dict[str, str]]:
    return [{"role": "user" if "prompt" in column else "assistant", "content": text}]


def quiet(folder, **options) -> dict:
    """Training settings for tests: float32, no checkpoints, no reports, 3 steps of 4 pairs."""
    return {
        "output_dir": str(folder), "bf16": False, "use_cpu": True, "learning_rate": 1e-3, "max_steps": 3,
        "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none", "save_strategy": "no",
        "gradient_checkpointing": False, "disable_tqdm": True, "max_length": 128, "lr_scheduler_type": "constant",
        **options,
    }  # fmt: skip
