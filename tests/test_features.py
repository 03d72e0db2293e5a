"""The packaged ImageNet weights give timm's network the outputs of the network they were published with."""

import contextlib
import io

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from skimage import data

from skindualgen.contracts import InputError
from skindualgen.judges.features import (
    CachedFeatures,
    FeatureExtractor,
    ImageNetFeatures,
    dihedral_views,
    load_imagenet_weights,
    packaged_imagenet_weights,
    to_network_input,
)
from skindualgen.judges.segmenter import build_segmenter

LITE0 = "tf_efficientnet_lite0"
SIDE_PX = {LITE0: 224, "tf_efficientnet_lite1": 240}


def noise(n: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("architecture", list(SIDE_PX))
def test_mapped_weights_give_the_outputs_of_the_published_network(architecture):
    ours = timm.create_model(architecture, pretrained=False).eval()
    load_imagenet_weights(ours, architecture)
    published = EfficientNet.from_name(architecture.removeprefix("tf_").replace("_", "-")).eval()
    published.load_state_dict(
        dict(zip(published.state_dict(), packaged_imagenet_weights(architecture).values(), strict=True))
    )
    inputs = to_network_input(noise(2, 64), SIDE_PX[architecture])
    with torch.inference_mode(), contextlib.redirect_stdout(io.StringIO()):  # the published code prints shapes
        torch.testing.assert_close(ours(inputs), published(inputs), rtol=0, atol=1e-5)


def test_a_photograph_of_a_cat_is_read_as_a_cat():
    """Guards the preprocessing: a wrong normalisation or channel order still gives finite features."""
    network = timm.create_model(LITE0, pretrained=False).eval()
    load_imagenet_weights(network, LITE0)
    cat = data.chelsea()[None, :, 75:375]
    with torch.inference_mode():
        best = int(network(to_network_input(cat, 224)).argmax())
    assert best in {281, 282, 285}  # tabby, tiger cat, Egyptian cat
    extractor = ImageNetFeatures()
    with torch.inference_mode():
        logits = network.classifier(torch.from_numpy(extractor(cat)))
    assert int(logits.argmax()) == best


def test_smp_encoder_gets_the_same_weights():
    segmenter = build_segmenter(LITE0, pretrained=True).eval()
    reference = timm.create_model(LITE0, pretrained=False, features_only=True).eval()
    load_imagenet_weights(reference, LITE0)
    inputs = to_network_input(noise(1, 64), 64)
    with torch.inference_mode():
        for ours, expected in zip(segmenter.encoder(inputs)[1:], reference(inputs), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
        published = EfficientNet.from_name("efficientnet-lite0").eval()
        published.load_state_dict(
            dict(zip(published.state_dict(), packaged_imagenet_weights(LITE0).values(), strict=True))
        )
        deepest = published._swish(published._bn0(published._conv_stem(inputs)))
        for block in published._blocks:
            deepest = block(deepest)
        # the published network pads for its own 224 px: the same only where every stride meets an even side
        torch.testing.assert_close(segmenter.encoder(inputs)[-1], deepest, rtol=0, atol=1e-4)


def test_extractor_meets_its_protocol_and_does_not_depend_on_the_batch():
    extractor = ImageNetFeatures(batch_size=2)
    assert isinstance(extractor, FeatureExtractor)
    images = noise(3, 48)
    features = extractor(images)
    assert features.shape == (3, extractor.dim) == (3, 1280)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([extractor(image[None]) for image in images]), features, atol=1e-4)
    assert extractor(images[:0]).shape == (0, 1280)
    assert "tf_efficientnet_lite0.imagenet" in extractor.name
    assert "224" in extractor.preprocessing


def test_cached_features_are_computed_once(tmp_path):
    class Counting:
        name, preprocessing, dim, calls = "mean", "none", 1, 0

        def __call__(self, images: np.ndarray) -> np.ndarray:
            self.calls += 1
            return images.mean((1, 2, 3), dtype=np.float32)[:, None]

    counting = Counting()
    cached = CachedFeatures(counting, tmp_path / "cache")
    assert isinstance(cached, FeatureExtractor)
    images = noise(3, 8)
    first = cached(images)
    assert (cached(images) == first).all()
    assert (CachedFeatures(counting, tmp_path / "cache")(images) == counting(images)).all()
    assert counting.calls == 2
    assert not (cached(images[::-1]) == first).all()
    assert counting.calls == 3


def test_resize_is_antialiased():
    """Guards against aliasing: a checkerboard of single pixels must become grey when it is reduced to half its side."""
    board = np.indices((448, 448)).sum(0) % 2 * 255
    reduced = to_network_input(np.repeat(board[None, :, :, None], 3, axis=3).astype(np.uint8), 224)
    assert reduced[..., 8:-8, 8:-8].abs().max() < 0.05
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    torch.testing.assert_close(to_network_input(white, 224), torch.ones(1, 3, 224, 224))


def test_views_are_the_eight_symmetries_of_the_square():
    picture = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    views = dihedral_views(picture)
    assert len({view.tobytes() for view in views}) == 8
    assert (views[0] == picture).all()
    with pytest.raises(InputError, match="square"):
        dihedral_views(np.zeros((1, 2, 3, 3), np.uint8))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="choose one of these"):
        packaged_imagenet_weights("resnet50")
    with pytest.raises(InputError, match="RGB"):
        ImageNetFeatures(pretrained=False)(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(InputError, match="without weights"):
        load_imagenet_weights(torch.nn.Linear(2, 2), LITE0)
