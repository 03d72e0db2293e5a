"""The joint objective: what is noised, what is asked of whom, and what the terms add up to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from skindualgen.codec import DEFAULT_CODEC
from skindualgen.config import LossSettings, NoiseSettings
from skindualgen.losses import add_noise, min_snr_weight, prediction_target, snr_of, velocity_target
from skindualgen.training.objective import FIELD_SHARPNESS, Noise, draw_noise, joint_loss, read_mask, term_means

ALPHAS = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
TIMESTEPS = len(ALPHAS)
TEXT = torch.zeros(4, 77, 8)
ONLY_NOISE = {"dice": 0.0, "bce": 0.0}
GENERATOR_SEED = 5


class Recorder(nn.Module):
    """Stands for the UNet where a test prescribes its answer: keeps what it is asked, returns a learnable tensor."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, sample: Tensor, timestep: Tensor, **given: Tensor) -> tuple[Tensor]:
        self.calls.append((sample.detach(), timestep, given["class_labels"]))
        return (self.answer,)


def pairs() -> tuple[Tensor, Tensor]:
    """Four latents, and codes of four discs at 64 px."""
    generator = torch.Generator().manual_seed(GENERATOR_SEED)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    radii_px = torch.tensor([9, 14, 20, 26]).view(4, 1, 1, 1)
    masks = ((rows - 30) ** 2 + (columns - 34) ** 2 < radii_px**2).float()
    return torch.randn(4, 4, 8, 8, generator=generator), DEFAULT_CODEC.encode(masks)


def some_noise(t_image: list[int], t_mask: list[int]) -> Noise:
    image, mask = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    return Noise(image, mask, torch.tensor(t_image), torch.tensor(t_mask))


def loss_of(
    unet: nn.Module, noise: Noise, *, kind: str = "epsilon", has_mask: Tensor | None = None, **settings: float
) -> tuple[Tensor, dict[str, float]]:
    latents, codes = pairs()
    loss, sums = joint_loss(
        unet,
        latents,
        codes,
        torch.ones(4, dtype=torch.bool) if has_mask is None else has_mask,
        TEXT,
        noise,
        alphas_cumprod=ALPHAS,
        prediction_type=kind,
        settings=LossSettings(**settings),
        codec=DEFAULT_CODEC,
    )
    return loss, term_means(sums)


def test_the_base_is_kept_but_where_a_mask_is_given() -> None:
    """Pairs with a clean photograph or a given mask have no such term; the others that of their distance."""
    noise = some_noise([500, 500, 0, 300], [500, 0, 400, 700])
    latents, codes = pairs()
    answer = torch.zeros(4, latents.shape[1] + codes.shape[1], 8, 8)
    seen = []

    def base(noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        seen.append((noisy, timesteps, text))
        return torch.full_like(noisy, 2.0)

    settings = LossSettings(image=0, mask=0, dice=0, bce=0, base=0.5, snr_gamma=1e9)
    arguments = (latents, codes, torch.ones(4, dtype=torch.bool), TEXT, noise)
    fixed = {"alphas_cumprod": ALPHAS, "prediction_type": "v_prediction", "codec": DEFAULT_CODEC}
    loss, sums = joint_loss(Recorder(answer), *arguments, **fixed, settings=settings, base_prediction=base)
    weight = min_snr_weight(snr_of(ALPHAS[torch.tensor([500, 300])]), "v_prediction", 1e9)
    assert loss.item() == pytest.approx(0.5 * float((weight * 4.0).sum()) / 4)
    assert sums["base"][1] == 2
    ((noisy, timesteps, _),) = seen  # it is not asked of what does not count
    assert timesteps.tolist() == [500, 300] and noisy.shape == (2, *latents.shape[1:])
    without, _ = joint_loss(Recorder(answer), *arguments, **fixed, settings=settings)
    assert without == 0


def perfect(noise: Noise, kind: str) -> Tensor:
    latents, codes = pairs()
    a_image, a_mask = (
        torch.where(t == 0, torch.ones(()), ALPHAS[t]).view(-1, 1, 1, 1) for t in (noise.t_image, noise.t_mask)
    )
    target = prediction_target(latents, noise.image, a_image, kind)
    return torch.cat([target, velocity_target(codes, noise.mask, a_mask)], dim=1)


def test_the_ways_have_their_shares() -> None:
    settings = NoiseSettings(equal=2, mask_given=1, image_given=4, independent=1)  # normalised: .25, .125, .5, .125
    b = 40_000
    noise = draw_noise(
        (b, 4, 1, 1), 4, torch.ones(b, dtype=torch.bool), settings, TIMESTEPS, torch.Generator().manual_seed(0)
    )
    shares = {
        "mask_given": (noise.t_mask == 0).float().mean().item(),
        "image_given": (noise.t_image == 0).float().mean().item(),
        "equal": (noise.t_image == noise.t_mask).float().mean().item(),
    }
    assert shares == pytest.approx({"mask_given": 0.125, "image_given": 0.5, "equal": 0.25}, abs=0.01)
    assert not ((noise.t_image == 0) & (noise.t_mask == 0)).any()
    for t in (noise.t_image, noise.t_mask):
        assert t[t > 0].min() == 1 and t.max() == TIMESTEPS - 1
    apart = (noise.t_image != noise.t_mask) & (noise.t_image > 0) & (noise.t_mask > 0)
    both = torch.stack([noise.t_image[apart], noise.t_mask[apart]]).float()
    assert abs(torch.corrcoef(both)[0, 1]) < 0.05


def test_reading_in_one_step_is_a_way_of_its_own() -> None:
    """And the draws of runs that do not ask for it stay what they were."""
    has_mask, shape = torch.arange(4000) % 4 > 0, (4000, 4, 1, 1)
    draw = lambda settings: draw_noise(  # noqa: E731
        shape, 4, has_mask, settings, TIMESTEPS, torch.Generator().manual_seed(0)
    )
    noise = draw(NoiseSettings(equal=1, mask_given=0, image_given=0, independent=0, reading=1))
    reads = noise.t_image == 0
    assert reads[has_mask].float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (noise.t_mask[reads] == TIMESTEPS - 1).all() and not reads[~has_mask].any()
    assert (noise.t_mask[has_mask & ~reads] == noise.t_image[has_mask & ~reads]).all()


def test_noise_is_white_and_a_function_of_the_generator() -> None:
    call = lambda: draw_noise(  # noqa: E731
        (64, 6, 8, 8),
        4,
        torch.ones(64, dtype=torch.bool),
        NoiseSettings(),
        TIMESTEPS,
        torch.Generator().manual_seed(3),
    )
    noise, again = call(), call()
    assert noise.image.shape == (64, 6, 8, 8) and noise.mask.shape == (64, 4, 8, 8)
    assert torch.equal(noise.image, again.image) and torch.equal(noise.t_mask, again.t_mask)
    assert noise.image.std().item() == pytest.approx(1, abs=0.02)
    assert abs((noise.image[:, :4] * noise.mask).mean()) < 0.02


def test_noise_offset_by_hand() -> None:
    """One more normal number for each image channel, of deviation .5, shared within the channel; the mask's stays."""
    draw = lambda offset: draw_noise(  # noqa: E731
        (500, 2, 4, 4),
        4,
        torch.ones(500, dtype=torch.bool),
        NoiseSettings(offset=offset),
        TIMESTEPS,
        torch.Generator().manual_seed(3),
    )
    plain, moved = draw(0.0), draw(0.5)
    assert torch.equal(plain.mask, moved.mask) and torch.equal(plain.t_image, moved.t_image)
    difference = moved.image - plain.image
    assert (difference - difference[:, :, :1, :1]).abs().max() < 1e-5
    assert difference[:, :, 0, 0].std().item() == pytest.approx(0.5, abs=0.03)


def test_a_pair_without_mask_trains_text_to_image_only() -> None:
    known = torch.tensor([True, False] * 500)
    noise = draw_noise((1000, 4, 1, 1), 4, known, NoiseSettings(), TIMESTEPS, torch.Generator().manual_seed(0))
    assert (noise.t_mask[~known] == TIMESTEPS - 1).all()
    assert (noise.t_image[~known] > 0).all()
    assert (noise.t_image[known] == 0).any()


def test_a_given_half_enters_clean() -> None:
    latents, codes = pairs()
    noise = some_noise([0, 500, 500, 999], [400, 0, 500, 1])
    unet = Recorder(torch.zeros(4, 8, 8, 8))
    loss_of(unet, noise)
    ((sample, t_image, t_mask),) = unet.calls
    assert torch.equal(t_image, noise.t_image) and torch.equal(t_mask, noise.t_mask)
    assert torch.equal(sample[0, :4], latents[0])
    assert torch.equal(sample[1, 4:], codes[1])
    expected = add_noise(codes[0], noise.mask[0], ALPHAS[400])
    torch.testing.assert_close(sample[0, 4:], expected)
    torch.testing.assert_close(sample[3, :4], add_noise(latents[3], noise.image[3], ALPHAS[999]))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_model_has_no_error(kind: str) -> None:
    noise = some_noise([0, 300, 500, 999], [400, 0, 500, 20])
    _, terms = loss_of(Recorder(perfect(noise, kind)), noise, kind=kind, lesion=1.0)
    assert terms["image"] == pytest.approx(0, abs=1e-9)
    assert terms["mask"] == pytest.approx(0, abs=1e-9)
    assert terms["dice"] < 0.1 and terms["bce"] < 0.1


def test_the_sum_by_hand() -> None:
    """Each weight times each term's sum over the pairs that are asked, over the batch; epsilon base, min-SNR 5."""
    _, codes = pairs()
    noise = some_noise([0, 300, 500, 700], [400, 0, 500, 900])
    answer = perfect(noise, "epsilon") + 0.3 * torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    weights = {"image": 1.5, "mask": 0.7, "dice": 0.3, "bce": 0.2}
    loss, terms = loss_of(Recorder(answer), noise, lesion=0.0, **weights)

    expected = dict.fromkeys(weights, 0.0)
    asked = dict.fromkeys(weights, 0)
    for i in range(4):
        t, t_mask = int(noise.t_image[i]), int(noise.t_mask[i])
        abar, abar_mask = float(ALPHAS[t]) if t else 1.0, float(ALPHAS[t_mask]) if t_mask else 1.0
        if t:
            snr = abar / (1 - abar)
            error = (answer[i, :4] - noise.image[i]).square().mean().item()
            expected["image"] += min(snr, 5) / snr * error
            asked["image"] += 1
        if t_mask:
            snr = abar_mask / (1 - abar_mask)
            noisy = abar_mask**0.5 * codes[i] + (1 - abar_mask) ** 0.5 * noise.mask[i]
            v = abar_mask**0.5 * noise.mask[i] - (1 - abar_mask) ** 0.5 * codes[i]
            expected["mask"] += min(snr + 1, 5) / (snr + 1) * (answer[i, 4:] - v).square().mean().item()
            x0 = abar_mask**0.5 * noisy - (1 - abar_mask) ** 0.5 * answer[i, 4:]
            field, target_field = DEFAULT_CODEC.decode(x0[None]), DEFAULT_CODEC.decode(codes[i][None])
            target, p = (target_field > 0).float(), (FIELD_SHARPNESS * field).sigmoid()
            gate = max(abar, abar_mask)
            expected["dice"] += gate * (1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)).item()
            expected["bce"] += gate * -(target * p.log() + (1 - target) * (1 - p).log()).mean().item()
            for name in ("mask", "dice", "bce"):
                asked[name] += 1
    assert asked == {"image": 3, "mask": 3, "dice": 3, "bce": 3}
    assert loss.item() == pytest.approx(sum(weights[name] * expected[name] / 4 for name in weights), rel=1e-4)
    assert terms == pytest.approx({name: expected[name] / asked[name] for name in weights}, rel=1e-4)


@pytest.mark.parametrize("name", ["image", "mask", "dice", "bce", "consistency"])
def test_each_term_can_be_switched_off(name: str) -> None:
    noise = some_noise([300] * 4, [300] * 4)
    torch.manual_seed(0)
    on = Recorder(torch.randn(4, 8, 8, 8))
    optional = {"consistency": 0.5}
    full, terms = loss_of(on, noise, **optional)
    off = Recorder(on.answer.detach().clone())
    without, fewer = loss_of(off, noise, **(optional | {name: 0.0}))
    assert set(terms) - set(fewer) == {name}
    weight = (LossSettings().model_dump() | optional)[name]
    assert (full - without).item() == pytest.approx(weight * terms[name], rel=1e-3, abs=1e-6)
    assert len(off.calls) == (1 if name == "consistency" else 2)  # the second pass is what consistency costs


def test_pairs_without_mask_count_in_the_image_term_only() -> None:
    """Guards against a loss on the placeholder codes of a photograph that has no mask."""
    noise = some_noise([300, 300, 300, 300], [999, 300, 999, 300])
    known = torch.tensor([False, True, False, True])
    torch.manual_seed(0)
    unet = Recorder(torch.randn(4, 8, 8, 8))
    loss, terms = loss_of(unet, noise, has_mask=known, lesion=2.0)
    loss.backward()
    assert unet.answer.grad is not None
    assert unet.answer.grad[~known, 4:].abs().max() == 0
    assert (unet.answer.grad[~known, :4].abs() > 0).all()
    assert (unet.answer.grad[known, 4:].abs().amax(dim=(1, 2, 3)) > 0).all()
    alone, _ = loss_of(Recorder(unet.answer.detach()[:, :]), noise, has_mask=torch.zeros(4, dtype=torch.bool))
    assert torch.isfinite(alone) and torch.isfinite(loss)
    assert terms["mask"] > 0


def test_the_lesion_weighs_more() -> None:
    """Same size of error inside and outside: with weight 3, what is inside counts more, at unchanged mean weight."""
    noise = some_noise([300] * 4, [300] * 4)
    _, codes = pairs()
    cells = torch.nn.functional.avg_pool2d((DEFAULT_CODEC.decode(codes) > 0).float(), 8)
    inside, outside = perfect(noise, "epsilon"), perfect(noise, "epsilon")
    inside[:, :4] += (cells == 1).float()
    outside[:, :4] += (cells == 0).float()
    ratio = {}
    for lesion in (0.0, 3.0):
        terms = [loss_of(Recorder(x), noise, lesion=lesion, **ONLY_NOISE)[1]["image"] for x in (inside, outside)]
        ratio[lesion] = terms[0] / terms[1]
    assert ratio[3.0] > 2 * ratio[0.0]
    even = perfect(noise, "epsilon")
    even[:, :4] += 1
    plain, weighted = (loss_of(Recorder(even), noise, lesion=x, **ONLY_NOISE)[1]["image"] for x in (0.0, 3.0))
    torch.testing.assert_close(plain, weighted)


def test_consistency_teaches_the_image_half() -> None:
    """The second pass reads the mask from the estimated photograph: its gradient reaches the first pass's image."""
    noise = some_noise([300] * 4, [300] * 4)

    class Reader(Recorder):
        def forward(self, sample: Tensor, timestep: Tensor, **given: Tensor) -> tuple[Tensor]:
            super().forward(sample, timestep, **given)
            return (self.answer if len(self.calls) == 1 else torch.cat([sample[:, 4:], sample[:, :4]], dim=1),)

    torch.manual_seed(0)
    unet = Reader(torch.randn(4, 8, 8, 8))
    zero = {"image": 0.0, "mask": 0.0, **ONLY_NOISE}
    loss, terms = loss_of(unet, noise, consistency=1.0, **zero)
    loss.backward()
    assert set(terms) == {"consistency"}
    assert unet.answer.grad is not None and unet.answer.grad[:, :4].abs().max() > 0
    assert unet.answer.grad[:, 4:].abs().max() == 0  # the joint mask is the target, and is not moved
    _, t_image, t_mask = unet.calls[1]
    assert (t_image == 0).all() and (t_mask == TIMESTEPS - 1).all()


def test_read_mask_inverts_a_perfect_reader() -> None:
    _, codes = pairs()
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    v = velocity_target(codes, noise, ALPHAS[-1])
    noisy = add_noise(codes, noise, ALPHAS[-1])
    unet = Recorder(torch.cat([torch.zeros_like(v), v], dim=1))
    field = read_mask(unet, codes, noisy, TEXT, ALPHAS, DEFAULT_CODEC)
    torch.testing.assert_close(field, DEFAULT_CODEC.decode(codes), rtol=0, atol=1e-4)


def test_zero_terminal_snr_has_no_nan() -> None:
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    latents, codes = pairs()
    noise = some_noise([999] * 4, [999] * 4)
    for kind in ("v_prediction", "epsilon"):
        unet = Recorder(torch.ones(4, 8, 8, 8))
        loss, _ = joint_loss(
            unet,
            latents,
            codes,
            torch.ones(4, dtype=torch.bool),
            TEXT,
            replace(noise),
            alphas_cumprod=scheduler.alphas_cumprod,
            prediction_type=kind,
            settings=LossSettings(consistency=0.1, lesion=1.0),
            codec=DEFAULT_CODEC,
        )
        loss.backward()
        assert torch.isfinite(loss) and unet.answer.grad is not None and torch.isfinite(unet.answer.grad).all()
