"""Each extractor is its library's own network: real classes, random weights, read from files as published ones are."""

import functools
import hashlib
import http.server
import io
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch_fidelity.feature_extractor_inceptionv3 as torch_fidelity_inception
from safetensors.torch import load_file, save_file
from torchmetrics.image.fid import FrechetInceptionDistance
from transformers import CLIPConfig, CLIPModel, CLIPVisionModelWithProjection

from skindualgen.contracts import InputError
from skindualgen.judges.extractors import CLIP, DINOV2, EXTRACTORS, FID_FEATURES, extractor_named
from skindualgen.judges.features import CachedFeatures, FeatureExtractor, ImageNetFeatures

CLOSED = "http://127.0.0.1:9"
"""Loopback port of the discard service, on which nothing listens."""


def noise(n: int, side: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def normalised(images: np.ndarray, mean, std) -> torch.Tensor:
    """Photographs that have the network's size already, by numpy alone."""
    inputs = (images.astype(np.float64) / 255 - mean) / std
    return torch.from_numpy(inputs.transpose(0, 3, 1, 2)).float()


class UnloadedInception(torch_fidelity_inception.FeatureExtractorInceptionV3):
    """torch-fidelity's network with the random weights that it is built with."""

    def load_state_dict(self, *_, **__):
        return None


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        network = UnloadedInception("inception", ["2048"], feature_extractor_weights_path=empty)
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def dinov2_weights(tmp_path_factory) -> Path:
    """As published: for pictures of 518 px, so that the position embedding must be resampled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(DINOV2, pretrained=False, num_classes=0)
    path = tmp_path_factory.mktemp("dinov2") / "random.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A whole CLIP, text encoder included, as on the hub."""
    tiny = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**tiny, "vocab_size": 99}, vision_config={**tiny, "image_size": 32, "patch_size": 8}
    )
    config.projection_dim = config.vision_config.projection_dim = 24
    folder = tmp_path_factory.mktemp("clip") / "model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def no_cache(monkeypatch, tmp_path) -> Path:
    """torch.hub's folder, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize(("name", "side"), [("efficientnet-lite0", 224), ("efficientnet-lite1", 240)])
def test_packaged_extractors_are_the_imagenet_ones(name, side):
    extractor = extractor_named(name)
    images = noise(2)
    expected = ImageNetFeatures(f"tf_{name.replace('-', '_')}")(images)
    np.testing.assert_array_equal(extractor(images), expected)
    assert f"{side} x {side}" in extractor.preprocessing
    assert extractor.name != FID_FEATURES
    with pytest.raises(InputError, match="carries its own"):
        extractor_named(name, weights=Path(__file__))


def test_inception_gives_the_features_of_torchmetrics(inception_weights):
    extractor = extractor_named("inception", weights=inception_weights)
    assert isinstance(extractor, FeatureExtractor)
    images = noise(4)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    # without antialiasing torchmetrics resizes as TensorFlow did
    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(inception_weights), antialias=False)
    features = extractor(images)
    assert features.shape == (4, extractor.dim) == (4, 2048)
    torch.testing.assert_close(torch.from_numpy(features), metric.inception(pixels), rtol=1e-4, atol=1e-5)


def test_only_the_published_inception_gives_a_fid(inception_weights, monkeypatch, tmp_path):
    """Guards the name: other weights in the same network must not be reported as FID, nor share cached features."""
    random = extractor_named("inception", weights=inception_weights)
    assert random.name != FID_FEATURES
    assert random.name != FID_FEATURES
    other = torch.load(inception_weights, weights_only=True)
    other["fc.bias"] += 1
    torch.save(other, tmp_path / "other.pth")
    assert extractor_named("inception", weights=tmp_path / "other.pth").name != random.name
    digits = hashlib.sha256(inception_weights.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(torch_fidelity_inception, "URL_INCEPTION_V3", f"{CLOSED}/weights-2015-12-05-{digits}.pth")
    published = extractor_named("inception", weights=inception_weights)
    assert published.name == FID_FEATURES
    assert CachedFeatures(published, tmp_path).name == FID_FEATURES


def test_inception_is_fetched_once_and_checked(inception_weights, monkeypatch, tmp_path, no_cache):
    digits = hashlib.sha256(inception_weights.read_bytes()).hexdigest()[:8]
    right, wrong = f"weights-{digits}.pth", "weights-00000000.pth"
    for name in (right, wrong):
        shutil.copy(inception_weights, tmp_path / name)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(torch_fidelity_inception, "URL_INCEPTION_V3", f"{address}/{wrong}")
        with pytest.raises(InputError, match="hash"):
            extractor_named("inception")
        assert not list(no_cache.iterdir())
        monkeypatch.setattr(torch_fidelity_inception, "URL_INCEPTION_V3", f"{address}/{right}")
        assert extractor_named("inception").name == FID_FEATURES
        server.shutdown()
    assert [path.name for path in no_cache.iterdir()] == [right]
    assert extractor_named("inception").name == FID_FEATURES  # the server is gone: from the cache


def test_dinov2_is_timms_network_at_224_px(dinov2_weights):
    extractor = extractor_named("dinov2", weights=dinov2_weights)
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.name.startswith(DINOV2)
    network = timm.create_model(DINOV2, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    network.load_state_dict(load_file(dinov2_weights))
    images = noise(2, 224)
    with torch.inference_mode():
        inputs = normalised(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        class_token = network.forward_features(inputs)[:, 0]
    features = extractor(images)
    assert features.shape == (2, extractor.dim) == (2, 384)
    torch.testing.assert_close(torch.from_numpy(features), class_token, rtol=1e-4, atol=1e-4)


def test_clip_is_the_image_embedding_of_the_whole_model(clip_folder, tmp_path):
    extractor = extractor_named("clip", weights=clip_folder)
    assert isinstance(extractor, FeatureExtractor)
    images = noise(3, 32)
    whole = CLIPModel.from_pretrained(clip_folder).eval()
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.inference_mode():
        seen = whole.vision_model(pixel_values=normalised(images, mean, std)).pooler_output
        expected = whole.visual_projection(seen)
    features = extractor(images)
    assert features.shape == (3, extractor.dim) == (3, 24)
    torch.testing.assert_close(torch.from_numpy(features), expected, rtol=1e-4, atol=1e-5)
    CLIPVisionModelWithProjection.from_pretrained(clip_folder).save_pretrained(tmp_path / "vision")
    assert extractor_named("clip", weights=tmp_path / "vision").name == extractor.name  # of the weights, not the file


def test_weights_that_cannot_be_had_name_what_was_tried_and_the_way_on(monkeypatch, no_cache):
    monkeypatch.setattr(torch_fidelity_inception, "URL_INCEPTION_V3", f"{CLOSED}/weights-6726825d.pth")
    for name, tried in (("inception", f"{CLOSED}/weights-6726825d.pth"), ("dinov2", f"timm/{DINOV2}"), ("clip", CLIP)):
        with pytest.raises(InputError) as caught:
            extractor_named(name)
        message = str(caught.value)
        assert tried in message
        assert "local file" in caught.value.remedy
        assert "efficientnet-lite0" in caught.value.remedy
        assert "\n" not in message


@pytest.mark.parametrize("name", ["inception", "dinov2", "clip"])
def test_unreadable_weights_are_refused(name, tmp_path):
    text = tmp_path / "weights.pth"
    text.write_text("no weights")
    with pytest.raises(InputError, match=r"the weights of .*, whole"):
        extractor_named(name, weights=text)
    torch.save({"other.weight": torch.zeros(2)}, text)
    with pytest.raises(InputError, match=r"the weights of .*, whole"):
        extractor_named(name, weights=text)
    with pytest.raises(InputError, match="check the path"):
        extractor_named(name, weights=tmp_path / "absent.pth")


def test_incomplete_clip_weights_are_refused(clip_folder, tmp_path):
    """Guards against transformers, which fills what is missing with random numbers and warns."""
    vision = CLIPVisionModelWithProjection.from_pretrained(clip_folder)
    tensors = {key: value for key, value in vision.state_dict().items() if "visual_projection" not in key}
    vision.config.save_pretrained(tmp_path)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="visual_projection"):
        extractor_named("clip", weights=tmp_path)


class Planted:
    """Unpickling it would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_weights_file_never_runs_code(tmp_path):
    trace, path = tmp_path / "ran", tmp_path / "planted.pth"
    torch.save({"fc.bias": Planted(trace)}, path)
    with pytest.raises(InputError, match="inception, whole"):
        extractor_named("inception", weights=path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the plant works


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError) as caught:
        extractor_named("vgg")
    assert all(name in str(caught.value) for name in EXTRACTORS)
    assert set(EXTRACTORS) == {"efficientnet-lite0", "efficientnet-lite1", "inception", "dinov2", "clip"}
