"""Settings of `CMAlignTrainer`."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import DPOConfig

from hf_mlalign.core.errors import DataError


@dataclass
class CMAlignConfig(DPOConfig):
    """`trl.DPOConfig` with a consistency term and a weighting of the pairs; all its other settings as there.

    Args:
        consistency_weight: λ of loss = DPO + λ·(1 − cos(h(chosen), stopgrad h(English reference))), ≥ 0. 0 (*paper*) is
            plain DPO: the trainer then does exactly what `DPOTrainer` does.
        consistency_layer: whose hidden states h are: 0 the embeddings, 1 … L the layers, −1 the last. `None`: the
            middle one, L // 2 (*ours*; LaCoMSA compares layer 15 of 32, *authors' script*).
        weight_by_margin: weight every pair, in the "sigmoid" loss and in the consistency term, by its `margin` over the
            mean margin of the training set (*ours*: off). Margins must be 0 or more.
    Raises:
        DataError: a negative or non-finite λ, or weighting with losses that have no per-pair form here.
    """

    consistency_weight: float = field(
        default=0.0, metadata={"help": "Weight λ of 1 - cos(h(chosen), h(English reference)); 0 is plain DPO (paper)."}
    )
    consistency_layer: int | None = field(
        default=None, metadata={"help": "Layer whose mean-pooled hidden states are compared; default: the middle one."}
    )
    weight_by_margin: bool = field(
        default=False, metadata={"help": "Weight every pair by its margin over the mean margin of the training set."}
    )

    def __post_init__(self):
        super().__post_init__()
        weight = self.consistency_weight
        if not 0 <= weight < float("inf"):
            raise DataError(f"consistency_weight: {weight} is not a number of 0 or more. 0 is plain DPO.")
        if not self.weight_by_margin:
            return
        if set(self.loss_type) - {"sigmoid", "sft"} or "sigmoid" not in self.loss_type:
            raise DataError(
                f"weight_by_margin: works with loss_type sigmoid (also with sft beside it), not {self.loss_type}."
            )
        others = {"ld_alpha": self.ld_alpha is not None, "use_weighting": self.use_weighting,
                  "f_divergence_type": self.f_divergence_type != "reverse_kl"}  # fmt: skip
        if set_too := [name for name, is_set in others.items() if is_set]:
            raise DataError(f"weight_by_margin: cannot be combined with {', '.join(set_too)}. Leave one of them out.")

    @property
    def needs_columns(self) -> bool:
        """Whether anything beyond plain DPO is asked for."""
        return self.consistency_weight > 0 or self.weight_by_margin
