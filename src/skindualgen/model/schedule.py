"""The noise schedule: rescaled to end in pure noise, where that is asked for and possible."""

from __future__ import annotations

from typing import Any

from diffusers import SchedulerMixin

from skindualgen.contracts import InputError

ZERO_TERMINAL_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""What a scheduler's configuration must say for the last timestep to hold no signal, and to be visited
(Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891)."""


def zero_terminal_snr(scheduler: SchedulerMixin) -> SchedulerMixin:
    """Return the scheduler with betas rescaled to a signal-to-noise ratio of 0 at the last timestep.

    Raises:
        InputError: it predicts epsilon, which says nothing about the picture at that timestep.
    """
    if scheduler.config.prediction_type != "v_prediction":
        raise InputError(
            f"noise.zero_terminal_snr with a base of prediction type {scheduler.config.prediction_type!r}",
            "a base that predicts velocity, as sd2 does: from pure noise, epsilon says nothing about the picture",
            "leave noise.zero_terminal_snr out, or use such a base",
        )
    options: dict[str, Any] = dict(ZERO_TERMINAL_SNR)
    return type(scheduler).from_config(scheduler.config, **options)
