"""One process of two: loss and gradients of a plain model and of the same model sharded by FSDP2, on the CPU.

torchrun --nproc_per_node 2 -m tests.cmalign.sharded_step FOLDER
"""

import copy
import json
import os
import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hf_mlalign.cmalign.trainer import CMAlignTrainer
from hf_mlalign.cmalign.trainer_config import CMAlignConfig
from tests.cmalign.preference_rows import preference_rows, quiet
from tests.tiny_models import byte_tokenizer, tiny_llama


def shard(model: torch.nn.Module, mesh) -> None:
    """As accelerate does it: every layer, then the rest."""
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def main(folder: Path) -> None:
    """Write rank 0's figures to FOLDER/step.json."""
    model = tiny_llama()
    config = CMAlignConfig(**quiet(folder, consistency_weight=0.5, weight_by_margin=True, gradient_checkpointing=True))
    trainer = CMAlignTrainer(model, ref_model=copy.deepcopy(model), args=config, processing_class=byte_tokenizer(),
                             train_dataset=preference_rows(4, without_reference=(1,)))  # fmt: skip
    trainer.ref_model = trainer.accelerator.unwrap_model(trainer.ref_model)
    trainer.model.train()
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    plain = trainer.compute_loss(trainer.model, dict(batch))
    plain.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    shard(trainer.model, mesh)
    shard(trainer.ref_model, mesh)
    sharded = trainer.compute_loss(trainer.model, dict(batch))
    sharded.backward()
    parts = dict(trainer.model.named_parameters())
    gap = max((parts[name].grad.full_tensor() - gradient).abs().max().item() for name, gradient in gradients.items())
    rows = parts["model.embed_tokens.weight"].to_local().shape[0]
    if torch.distributed.get_rank() == 0:
        figures = {"plain": plain.item(), "sharded": sharded.item(), "gap": gap, "rows": rows}
        (folder / "step.json").write_text(json.dumps(figures))
    torch.distributed.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
