"""Widen a stock text-to-image UNet to denoise [image latent | mask code] jointly under two noise levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from skindualgen.codec import CODE_CHANNELS
from skindualgen.contracts import InputError
from skindualgen.model.mask_head import HeadedUNet, MaskHead

NEW_MODULES = ("conv_in", "conv_out", "class_embedding")
"""modules that hold new weights: trained in full and saved with the adapter"""
MASK_HEAD = "mask_head"
"""one more of them, where there is one"""
CLEAN_TIMESTEP = 0
"""Timestep of a half that is given: it enters without noise. Noisy halves have timesteps >= 1."""


def widen_unet(
    base: UNet2DConditionModel,
    mask_channels: int = CODE_CHANNELS,
    *,
    share: bool = False,
    head: Mapping[str, int] | None = None,
) -> UNet2DConditionModel:
    """Return a joint UNet whose image half equals ``base`` exactly, whatever the mask half holds.

    Input and output grow from C to C + ``mask_channels`` channels; the new filters of ``conv_in`` and ``conv_out`` are
    zero, the old ones copied. The mask's timestep enters as ``class_labels`` (``class_embed_type="timestep"``), the
    last layer of its embedding being zero. ``base`` is left as it is. With a mask head, ``conv_out`` gives features for
    it in place of the mask code.

    Args:
        base: of the Stable Diffusion 1 or 2 family.
        mask_channels: of the mask code.
        share: hold the weights that stay once, in both: for training, which changes none of them. Merging an adapter
            would change the base.
        head: ``width``, ``levels`` and ``features`` of a mask head (``skindualgen.model.mask_head``).

    Raises:
        InputError: ``base`` has a class embedding of its own, or unequal input and output channels.
    """
    config = dict(base.config)
    image_channels = config["in_channels"]
    if config["out_channels"] != image_channels:
        raise InputError(
            f"a UNet with {image_channels} input and {config['out_channels']} output channels",
            "a text-to-image UNet with as many output as input channels",
            "inpainting and depth variants cannot be a base: use the text-to-image one",
        )
    if base.class_embedding is not None:
        raise InputError(
            f"a UNet with class_embed_type {config['class_embed_type']!r}",
            "a UNet without class embedding, as the mask's timestep takes that entry",
            "use a base of the Stable Diffusion 1 or 2 family",
        )
    channels = image_channels + mask_channels
    config |= {"in_channels": channels, "out_channels": channels, "class_embed_type": "timestep"}
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):  # no second set of weights, and no time to draw it
        if head is None:
            joint = UNet2DConditionModel(**config)
        else:
            config["out_channels"] = image_channels + head["features"]
            head = {**head, "channels": mask_channels}
            joint = HeadedUNet(head=head, **config)
    state = base.state_dict() if share else {name: value.clone() for name, value in base.state_dict().items()}
    for name, dim in (("conv_in.weight", 1), ("conv_out.weight", 0), ("conv_out.bias", 0)):
        wide = torch.zeros(joint.get_parameter(name).shape, dtype=base.dtype, device=base.device)
        wide.narrow(dim, 0, image_channels).copy_(state[name])
        state[name] = wide
    embedding = joint.class_embedding.to_empty(device=base.device).to(base.dtype)
    embedding.linear_1.reset_parameters()
    nn.init.zeros_(embedding.linear_2.weight)
    nn.init.zeros_(embedding.linear_2.bias)
    state |= {f"class_embedding.{name}": value for name, value in embedding.state_dict().items()}
    if head is not None:
        own = MaskHead(channels, **head).to(base.device, base.dtype)
        state |= {f"{MASK_HEAD}.{name}": value for name, value in own.state_dict().items()}
    joint.load_state_dict(state, assign=True)
    return joint


def joint_prediction(
    unet: nn.Module,
    latents: Tensor,
    codes: Tensor,
    t_image: Tensor,
    t_mask: Tensor,
    text: Tensor,
    *,
    mask_guidance: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One pass through the joint UNet.

    Args:
        unet: as returned by ``widen_unet``, with or without an adapter.
        latents: noisy image latents [b, c, h/8, w/8]; clean where ``t_image`` is 0.
        codes: noisy mask codes [b, m, h/8, w/8]; clean where ``t_mask`` is 0.
        t_image, t_mask: timesteps [b], integers in [0, 1000).
        text: text encoder states [b, tokens, width].
        mask_guidance: how far the picture is led towards the mask; other than 1 with a mask head alone.

    Returns:
        Image prediction [b, c, ...] in the base's prediction type and mask velocity [b, m, ...].
    """
    joined = torch.cat([latents, codes], dim=1)  # [b, c+m, h/8, w/8]
    led = {} if mask_guidance == 1 else {"mask_guidance": mask_guidance}
    out = unet(joined, t_image, encoder_hidden_states=text, class_labels=t_mask, return_dict=False, **led)[0]
    image, mask = out.split([latents.shape[1], codes.shape[1]], dim=1)
    return image, mask


def train_head_alone(unet: nn.Module) -> None:
    """Let training change the mask head and ``conv_out``, which makes its features, and nothing before them.

    No gradient goes through the UNet then: a step costs a third.

    Raises:
        InputError: there is no mask head.
    """
    if not hasattr(unet, MASK_HEAD):
        raise InputError("mask_head.alone without a mask head", "one", "set mask_head.width, 96 for example")
    for name, parameter in unet.named_parameters():
        if f"{MASK_HEAD}." not in name and "conv_out." not in name:
            parameter.requires_grad_(False)


def freeze_base_filters(unet: nn.Module, image_channels: int) -> None:
    """Let training change the mask's filters of ``conv_in`` and ``conv_out`` alone: the base's get no gradient.

    The two are trained in full otherwise. Their bias of ``conv_in`` adds to what the image's filters see, so it is the
    base's as well; that of ``conv_out`` has a number for each channel.

    Args:
        unet: as returned by ``widen_unet``, with or without an adapter.
        image_channels: of the base's latents.
    """
    for parameter, _, dim, kept in _base_filters(unet, image_channels):
        if parameter.requires_grad:
            parameter.register_hook(partial(_without_first, dim=dim, count=kept))


@torch.no_grad()
def restore_base_filters(unet: nn.Module, base: UNet2DConditionModel) -> None:
    """Give ``conv_in`` and ``conv_out`` the base's own filters again, whatever an adapter's file holds in their place.

    A file holds both layers whole. An adapter that ``freeze_base_filters`` trained changes nothing of that part, and on
    a newer version of its base it would bring the earlier one's filters along.

    Args:
        unet: as returned by ``widen_unet``, with an adapter; changed in place.
        base: the UNet whose filters it takes.
    """
    for parameter, name, dim, kept in _base_filters(unet, base.config["in_channels"]):
        parameter.narrow(dim, 0, kept).copy_(base.get_parameter(name))


def _base_filters(unet: nn.Module, image_channels: int) -> Iterator[tuple[nn.Parameter, str, int, int]]:
    """Parameters of ``conv_in`` and ``conv_out``, the base's name of each, and where in it the base's own part is."""
    for module, dim in (("conv_in", 1), ("conv_out", 0)):
        for name, parameter in unet.get_submodule(module).named_parameters():
            kind = name.rpartition(".")[2]
            whole = kind == "bias" and module == "conv_in"
            yield parameter, f"{module}.{kind}", 0 if whole else dim, parameter.shape[0] if whole else image_channels


def _without_first(grad: Tensor, *, dim: int, count: int) -> Tensor:
    changed = grad.clone()
    changed.narrow(dim, 0, count).zero_()
    return changed
