"""Noise targets, signal-to-noise weights and the terms of the joint loss: small free functions, one value per sample.

``abar`` is the scheduler's cumulative alpha (signal power), between 0 (pure noise) and 1 (clean), shaped to broadcast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_SNR_GAMMA = 5.0
"""Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", arXiv 2303.09556, section 3.4."""
SMALLEST_ABAR = 1e-8


def snr_of(alphas_cumprod: Tensor) -> Tensor:
    """Signal-to-noise ratio abar / (1 - abar); infinite where abar = 1."""
    return alphas_cumprod / (1 - alphas_cumprod)


def add_noise(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """Return sqrt(abar) x0 + sqrt(1 - abar) noise. Source: Ho et al. 2020, arXiv 2006.11239, eq. 4."""
    return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


def velocity_target(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """Return v = sqrt(abar) noise - sqrt(1 - abar) x0. Source: Salimans & Ho 2022, arXiv 2202.00512, appendix D."""
    return abar.sqrt() * noise - (1 - abar).sqrt() * x0


def prediction_target(x0: Tensor, noise: Tensor, abar: Tensor, prediction_type: str) -> Tensor:
    """What the network has to predict under ``prediction_type`` ("epsilon", "v_prediction" or "sample")."""
    match prediction_type:
        case "epsilon":
            return noise
        case "v_prediction":
            return velocity_target(x0, noise, abar)
        case "sample":
            return x0
    raise ValueError(f"prediction_type {prediction_type!r}; expected epsilon, v_prediction or sample")


def velocity_to_x0(v: Tensor, noisy: Tensor, abar: Tensor) -> Tensor:
    """Return the clean estimate sqrt(abar) noisy - sqrt(1 - abar) v."""
    return abar.sqrt() * noisy - (1 - abar).sqrt() * v


def velocity_to_epsilon(v: Tensor, noisy: Tensor, abar: Tensor) -> Tensor:
    """Return the noise estimate sqrt(1 - abar) noisy + sqrt(abar) v."""
    return (1 - abar).sqrt() * noisy + abar.sqrt() * v


def velocity_to(prediction_type: str, v: Tensor, noisy: Tensor, abar: Tensor) -> Tensor:
    """Convert a velocity into what a scheduler of ``prediction_type`` expects."""
    match prediction_type:
        case "epsilon":
            return velocity_to_epsilon(v, noisy, abar)
        case "v_prediction":
            return v
        case "sample":
            return velocity_to_x0(v, noisy, abar)
    raise ValueError(f"prediction_type {prediction_type!r}; expected epsilon, v_prediction or sample")


def prediction_to_x0(prediction: Tensor, noisy: Tensor, abar: Tensor, prediction_type: str) -> Tensor:
    """Return the clean estimate from any prediction. Epsilon at abar = 0 has none; abar is clamped to 1e-8 there."""
    match prediction_type:
        case "epsilon":
            return (noisy - (1 - abar).sqrt() * prediction) / abar.clamp(min=SMALLEST_ABAR).sqrt()
        case "v_prediction":
            return velocity_to_x0(prediction, noisy, abar)
        case "sample":
            return prediction
    raise ValueError(f"prediction_type {prediction_type!r}; expected epsilon, v_prediction or sample")


def first_order_step(
    prediction: Tensor, noisy: Tensor, abar: Tensor, following: Tensor, prediction_type: str
) -> Tensor:
    """Where one deterministic step leads that takes a prediction for right all the way.

    DDIM's, which is DPM-Solver++'s of first order. Source: Song et al. 2021, arXiv 2010.02502, eq. 12, sigma 0.

    Args:
        prediction: of the network for ``noisy``.
        noisy: at signal power ``abar``, below 1.
        following: signal power that is stepped to; 1 is the clean end.
    """
    clean = prediction_to_x0(prediction, noisy, abar, prediction_type)
    noise = (noisy - abar.sqrt() * clean) / (1 - abar).sqrt()
    return add_noise(clean, noise, following)


def velocity_weight(snr: Tensor, gamma: float = MIN_SNR_GAMMA) -> Tensor:
    """Min-SNR weight of a velocity error in the form that stays positive at SNR 0: min(SNR + 1, gamma) / (SNR + 1).

    Under zero terminal SNR the usual form min(SNR, gamma) / (SNR + 1) leaves the noisiest tenth 0.03 % of the weight.
    """
    return (snr + 1).clamp(max=gamma) / (snr + 1)


def min_snr_weight(snr: Tensor, prediction_type: str, gamma: float = MIN_SNR_GAMMA) -> Tensor:
    """Min-SNR weight for the given prediction type: epsilon min(SNR, g)/SNR, x0 min(SNR, g), v the stable form.

    The epsilon weight is computed as min(1, g/SNR): 1 at SNR 0, never 0/0.
    """
    match prediction_type:
        case "epsilon":
            return (gamma / snr).clamp(max=1)
        case "v_prediction":
            return velocity_weight(snr, gamma)
        case "sample":
            return snr.clamp(max=gamma)
    raise ValueError(f"prediction_type {prediction_type!r}; expected epsilon, v_prediction or sample")


def weighted_mse(prediction: Tensor, target: Tensor, pixel_weight: Tensor | None = None) -> Tensor:
    """Mean squared error per sample [b]; ``pixel_weight`` [b, 1, h, w] is normalised to mean 1 per sample."""
    error = (prediction.float() - target.float()).square()
    if pixel_weight is not None:
        error = error * (pixel_weight / pixel_weight.mean(dim=(1, 2, 3), keepdim=True))
    return error.mean(dim=(1, 2, 3))


def dice_loss(lesion_probability: Tensor, mask: Tensor) -> Tensor:
    """Soft Dice loss per sample [b] of [b, k, h, w] in [0, 1]; smoothing 1 px, so two empty masks give 0.

    Source: Milletari et al. 2016, V-Net, arXiv 1606.04797, with squared terms left out.
    """
    overlap = (lesion_probability * mask).sum(dim=(1, 2, 3))
    total = lesion_probability.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
    return 1 - (2 * overlap + 1) / (total + 1)


def bce_loss(lesion_logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy per sample [b], in nats per pixel, of [b, k, h, w]."""
    return F.binary_cross_entropy_with_logits(lesion_logits, mask, reduction="none").mean(dim=(1, 2, 3))


def field_loss(field: Tensor, target_field: Tensor) -> Tensor:
    """Mean absolute difference per sample [b] of two truncated signed distance fields [b, k, h, w] in [-1, 1]."""
    return (field - target_field).abs().mean(dim=(1, 2, 3))


def mask_gate(abar_image: Tensor, abar_mask: Tensor) -> Tensor:
    """How far the decoded mask is determined at this noise: max of the two signal powers, [b].

    A mask in pure noise is still determined when its photograph is clean (image -> mask), so its own signal power alone
    would switch the Dice term off exactly where segmentation is learned.
    """
    return torch.maximum(abar_image, abar_mask)
