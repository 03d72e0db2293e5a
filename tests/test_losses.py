"""Targets, weights and terms against values worked by hand, and conversions as identities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skindualgen.losses import (
    add_noise,
    bce_loss,
    dice_loss,
    field_loss,
    mask_gate,
    min_snr_weight,
    prediction_target,
    prediction_to_x0,
    snr_of,
    velocity_target,
    velocity_to,
    velocity_to_epsilon,
    velocity_to_x0,
    velocity_weight,
    weighted_mse,
)

TYPES = ("epsilon", "v_prediction", "sample")
SNR = torch.tensor([0.0, 1.0, 5.0, math.inf])


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_snr() -> None:
    assert snr_of(torch.tensor([0.0, 0.5, 0.75, 1.0])).tolist() == [0.0, 1.0, 3.0, math.inf]


def test_noising_and_velocity_by_hand() -> None:
    """abar = .36: signal .6, noise .8."""
    x0, noise, abar = tensor(1.0, -2.0), tensor(0.5, 3.0), torch.tensor(0.36)
    torch.testing.assert_close(add_noise(x0, noise, abar), tensor(1.0, 1.2))  # .6 + .4; -1.2 + 2.4
    torch.testing.assert_close(velocity_target(x0, noise, abar), tensor(-0.5, 3.4))  # .3 - .8; 1.8 + 1.6


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_a_true_velocity_gives_back_noise_and_picture(seed: int, signal_power: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    abar = torch.tensor(signal_power, dtype=torch.float64)
    noisy, v = add_noise(x0, noise, abar), velocity_target(x0, noise, abar)
    torch.testing.assert_close(velocity_to_x0(v, noisy, abar), x0)
    torch.testing.assert_close(velocity_to_epsilon(v, noisy, abar), noise)
    for kind in TYPES:
        torch.testing.assert_close(velocity_to(kind, v, noisy, abar), prediction_target(x0, noise, abar, kind))


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.floats(1e-3, 1), st.sampled_from(TYPES))
def test_every_true_prediction_gives_back_the_picture(seed: int, signal_power: float, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    abar = torch.tensor(signal_power, dtype=torch.float64)
    noisy = add_noise(x0, noise, abar)
    target = prediction_target(x0, noise, abar, kind)
    torch.testing.assert_close(prediction_to_x0(target, noisy, abar, kind), x0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_the_clean_estimate_is_finite_in_pure_noise(kind: str) -> None:
    assert torch.isfinite(prediction_to_x0(tensor(1.0), tensor(-1.0), torch.tensor(0.0), kind)).all()


def test_velocity_weight_by_hand() -> None:
    """min(SNR + 1, 5) / (SNR + 1): all of it in pure noise, 5/6 at SNR 5, nothing for a clean half."""
    torch.testing.assert_close(velocity_weight(SNR, 5.0), torch.tensor([1.0, 1.0, 5 / 6, 0.0]))
    torch.testing.assert_close(velocity_weight(SNR, 1.5), torch.tensor([1.0, 0.75, 0.25, 0.0]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("epsilon", [1.0, 1.0, 1.0, 0.0]),
        ("v_prediction", [1.0, 1.0, 5 / 6, 0.0]),
        ("sample", [0.0, 1.0, 5.0, 5.0]),
    ],
)
def test_min_snr_weights_at_the_ends(kind: str, expected: list[float]) -> None:
    """Guards against 0/0 for epsilon under zero terminal SNR and inf/inf for a clean half."""
    torch.testing.assert_close(min_snr_weight(SNR, kind, 5.0), torch.tensor(expected))


def test_the_epsilon_weight_falls_above_gamma() -> None:
    torch.testing.assert_close(min_snr_weight(torch.tensor([10.0, 50.0]), "epsilon", 5.0), torch.tensor([0.5, 0.1]))


def test_the_epsilon_weight_never_exceeds_1() -> None:
    assert min_snr_weight(torch.tensor([0.0, 1e-30, 5e-9, 1e-6]), "epsilon", 5.0).tolist() == [1, 1, 1, 1]


@settings(max_examples=100)
@given(st.floats(0, allow_nan=False), st.sampled_from(TYPES), st.floats(0.5, 20))
def test_no_weight_is_nan_or_negative(snr: float, kind: str, gamma: float) -> None:
    weight = min_snr_weight(torch.tensor([snr]), kind, gamma)
    assert torch.isfinite(weight).all()
    assert (weight >= 0).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: prediction_target(tensor(1.0), tensor(1.0), torch.tensor(0.5), "flow"),
        lambda: prediction_to_x0(tensor(1.0), tensor(1.0), torch.tensor(0.5), "flow"),
        lambda: velocity_to("flow", tensor(1.0), tensor(1.0), torch.tensor(0.5)),
        lambda: min_snr_weight(SNR, "flow"),
    ],
)
def test_unknown_prediction_types_are_refused(call) -> None:
    with pytest.raises(ValueError, match="'flow'; expected epsilon"):
        call()


def test_weighted_mse_by_hand() -> None:
    prediction, target = torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]], [[[2.0, 2.0]]]])
    assert weighted_mse(prediction, target).tolist() == [5.0, 4.0]
    # Weights 1 and 3 become 1/2 and 3/2: (1 * .5 + 9 * 1.5) / 2 = 7; a constant weight changes nothing.
    weight = torch.tensor([[[[1.0, 3.0]]], [[[7.0, 7.0]]]])
    assert weighted_mse(prediction, target, weight).tolist() == [7.0, 4.0]


def test_weighted_mse_reads_half_precision_in_float32() -> None:
    big = torch.full((1, 1, 1, 1), 300.0, dtype=torch.float16)  # 300^2 overflows float16
    assert weighted_mse(big, torch.zeros_like(big)).item() == 90_000.0


def test_dice_loss_by_hand() -> None:
    mask = tensor(1.0, 1.0, 0.0, 0.0)
    assert dice_loss(mask, mask).item() == 0.0
    assert dice_loss(torch.zeros_like(mask), torch.zeros_like(mask)).item() == 0.0
    # overlap .5 + 1 = 1.5, total 2 + 2 = 4: 1 - (3 + 1) / (4 + 1)
    assert dice_loss(tensor(0.5, 1.0, 0.5, 0.0), mask).item() == pytest.approx(0.2)
    # no overlap: 1 - 1 / 5
    assert dice_loss(1 - mask, mask).item() == pytest.approx(0.8)


def test_dice_and_bce_are_per_sample() -> None:
    mask = torch.zeros(3, 1, 2, 2)
    mask[1] = 1
    logits = torch.tensor([0.0, 20.0, -20.0]).view(3, 1, 1, 1).expand_as(mask)
    torch.testing.assert_close(bce_loss(logits, mask), torch.tensor([math.log(2), 0.0, 0.0]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        dice_loss(logits.sigmoid(), mask), torch.tensor([1 - 1 / 3, 0.0, 0.0]), rtol=1e-5, atol=1e-6
    )


def test_bce_is_finite_for_wrong_certainty() -> None:
    assert bce_loss(tensor(1000.0), tensor(0.0)).item() == 1000.0


def test_field_loss_by_hand() -> None:
    assert field_loss(tensor(1.0, -1.0), tensor(0.5, 1.0)).item() == 1.25


def test_the_gate_opens_for_a_clean_photograph() -> None:
    """Guards against gating by the mask's own noise alone, which is 0 where segmentation is learned."""
    gate = mask_gate(torch.tensor([1.0, 0.2, 0.0]), torch.tensor([0.0, 0.7, 0.0]))
    torch.testing.assert_close(gate, torch.tensor([1.0, 0.7, 0.0]))
