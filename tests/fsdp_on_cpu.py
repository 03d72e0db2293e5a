"""``skindualgen`` with FSDP on the CPU, for tests: accelerate takes its FSDP configuration up on GPUs only.

All but that decision is theirs and ours as on GPUs: the sharding, the collectives (gloo), the training. Each process
prints which share of the UNet's bytes it holds after sharding.
"""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from skindualgen.cli import app

initialise_state, prepare = AcceleratorState.__init__, Accelerator.prepare


def initialise(state: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
    """As accelerate's own, which does the last lines itself on a GPU."""
    initialise_state(state, *args, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None and state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        state.fsdp_plugin = fsdp_plugin


def prepare_and_tell(accelerator: Accelerator, *args: Any) -> Any:
    """As accelerate's own, with the line that a test reads."""
    prepared = prepare(accelerator, *args)
    parameters = list(prepared[0].parameters())
    held = sum(p.to_local().nbytes for p in parameters if isinstance(p, DTensor))
    print(f"share held: {held / sum(p.nbytes for p in parameters):.3f}", flush=True)
    return prepared


if __name__ == "__main__":
    Accelerator.prepare = prepare_and_tell
    AcceleratorState.__init__ = initialise
    app(prog_name="skindualgen")
