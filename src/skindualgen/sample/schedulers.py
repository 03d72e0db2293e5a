"""Which schedulers denoise both halves rightly: recognised by what they do, and not by their names."""

from __future__ import annotations

import copy
import inspect

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from skindualgen.contracts import InputError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
"""into which the mask's velocity can be converted"""
GIVEN_IN_A_STEP = {"model_output", "timestep", "sample", "generator", "return_dict"}
"""arguments of a scheduler's step that the pipeline knows"""
LEVEL_TOLERANCE = 0.02
"""between a scheduler's own noise level and that of its timestep: Karras' levels lie between whole timesteps"""
REMEDY = "use DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler"


def check_scheduler(scheduler: SchedulerMixin, steps: int) -> None:
    """Refuse a scheduler that does not denoise variance preserving halves, one step a timestep, from any of its steps.

    Raises:
        InputError: its samples are not sqrt(abar) x0 + sqrt(1 - abar) noise, as in flow matching or with sigmas; its
            steps need more than one prediction, as Runge-Kutta steps do, so that an edit cannot begin between them; it
            lacks something that the pipeline cannot give; or it cannot take that many steps.
    """
    for reason in (_not_variance_preserving(scheduler), _not_of_the_halves(scheduler)):
        if reason:
            raise _refusal(scheduler, reason)
    most = int(scheduler.config.num_train_timesteps)
    if steps > most:
        raise InputError(f"{steps} steps of a schedule of {most}", f"at most {most}", "lower num_inference_steps")
    own = copy.deepcopy(scheduler)
    try:
        own.set_timesteps(steps)
    except (ValueError, AssertionError) as error:
        got = f"{steps} steps of scheduler {type(scheduler).__name__}: {error}"
        raise InputError(got, "a number of steps that it can take", "give fewer num_inference_steps") from None
    if reason := _not_a_step_a_timestep(own, steps) or _other_levels(own):
        raise _refusal(scheduler, reason)


def _refusal(scheduler: SchedulerMixin, reason: str) -> InputError:
    return InputError(
        f"scheduler {type(scheduler).__name__}, {reason}",
        "a variance preserving one of one prediction per step, as the mask's velocity is converted by its alphas",
        REMEDY,
    )


def _not_variance_preserving(scheduler: SchedulerMixin) -> str:
    if not isinstance(getattr(scheduler, "alphas_cumprod", None), Tensor):
        return "which has no alphas_cumprod"
    if getattr(scheduler, "init_noise_sigma", None) != 1:
        return "whose noise does not begin with variance 1"
    if scheduler.config.get("use_flow_sigmas"):
        return "which is set to flow matching"
    return ""


def _not_of_the_halves(scheduler: SchedulerMixin) -> str:
    if scheduler.config.get("prediction_type") not in PREDICTION_TYPES:
        return f"of prediction type {scheduler.config.get('prediction_type')!r}"
    parameters = inspect.signature(scheduler.step).parameters.values()
    needed = {
        each.name for each in parameters if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    }
    if unknown := sorted(needed - GIVEN_IN_A_STEP):
        return f"whose step needs {', '.join(unknown)}"
    return ""


def _not_a_step_a_timestep(own: SchedulerMixin, steps: int) -> str:
    if len(own.timesteps) > steps:
        return f"which takes {len(own.timesteps)} predictions for {steps} steps"
    falling = bool((own.timesteps.diff() < 0).all())
    if not falling and (not hasattr(own, "set_begin_index") or bool((own.timesteps.diff() > 0).any())):
        return "whose timesteps do not fall from step to step"
    return ""


def _other_levels(own: SchedulerMixin) -> str:
    """Compare the levels of noise that a scheduler gives its timesteps with those of its alphas."""
    if not hasattr(own, "add_noise"):
        return "which has no noise levels"
    one, timesteps = torch.ones(1, 1, 1, 1), own.timesteps
    for timestep in (timesteps[0], timesteps[len(timesteps) // 2], timesteps[-1]):
        abar = float(own.alphas_cumprod[int(timestep)])
        signal = float(own.add_noise(one, 0 * one, timestep[None]))
        noise = float(own.add_noise(0 * one, one, timestep[None]))
        if abs(signal - abar**0.5) > LEVEL_TOLERANCE or abs(noise - (1 - abar) ** 0.5) > LEVEL_TOLERANCE:
            return "whose noise levels are not those of its alphas_cumprod"
    return ""
