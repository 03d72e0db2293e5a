"""FSDP: which settings of it are taken, and how shards are gathered for a checkpoint and dealt out again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError

DDP = "or train by DDP: accelerate launch --multi_gpu"


def take_sharding(config: TrainConfig, accelerator: Accelerator) -> None:
    """Under FSDP, check that all of its settings are among those that are tested, and leave precision to autocast.

    Weights then keep their own types in the shards, and a step computes what it computes without FSDP.

    Raises:
        InputError: FSDP on a CPU, where accelerate would silently train by DDP, or a setting beyond.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return
    if accelerator.distributed_type != DistributedType.FSDP:
        raise InputError(
            f"FSDP on {accelerator.device.type} ({accelerator.distributed_type.value})",
            "GPUs: accelerate shards nowhere else",
            "leave the FSDP configuration out",
        )
    plugin = accelerator.state.fsdp_plugin
    refused = {
        f"fsdp_version {plugin.fsdp_version}": plugin.fsdp_version != 2,
        "fsdp_cpu_ram_efficient_loading": plugin.cpu_ram_efficient_loading,
        "fsdp_offload_params": os.environ.get("FSDP_OFFLOAD_PARAMS", "false").lower() == "true",
        "fsdp_activation_checkpointing": plugin.activation_checkpointing,
        "mixed_precision fp16": accelerator.mixed_precision == "fp16",
        "optimizer adamw8bit": config.optimizer == "adamw8bit",
        "compile": config.compile,
        "freeze_base_filters": config.freeze_base_filters,
        "loss.base": config.loss.base > 0,
    }
    if any(refused.values()):
        raise InputError(
            f"FSDP with {', '.join(name for name, found in refused.items() if found)}",
            "fsdp_version 2 as in examples/fsdp.yaml, mixed_precision bf16 or fp32, optimizer adamw, no compile, no "
            "freeze_base_filters, no loss.base; gradient_checkpointing is a setting of the training",
            f"change that, {DDP}",
        )
    plugin.mixed_precision_policy = MixedPrecisionPolicy(cast_forward_inputs=False)


def whole(value: Any) -> Any:
    """Gather every shard in a state, containers kept: all processes must call it."""
    if isinstance(value, DTensor):
        return value.full_tensor().detach()
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as ``parameter`` is; all of it where that is no shard."""
    if not isinstance(parameter, DTensor):
        return value
    value = value.to(parameter.device)
    # Every process has read the same checkpoint, so nothing has to be sent.
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def optimizer_state_like(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimiser, its moments cut as their parameters are."""
    parameters: Sequence[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        number: {
            name: like(value, parameters[number]) if value.shape == parameters[number].shape else value
            for name, value in entry.items()
        }
        for number, entry in state["state"].items()
    }
    return state | {"state": moments}


def reshard(model: nn.Module) -> None:
    """Drop what is gathered of a sharded model: else its next pass would not see weights that were set meanwhile."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
