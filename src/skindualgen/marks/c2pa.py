"""Signed content credentials (C2PA) in generated images, through c2pa-python; nothing here uses the network unasked.

Source: C2PA Technical Specification 2.4.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.files import png_bytes
from skindualgen.marks.certificates import read_pem, read_signer
from skindualgen.marks.xmp import TRAINED_ALGORITHMIC_MEDIA

GENERATION_ASSERTION = "skindualgen.generation"
"""Label of the assertion that holds what the image was made with."""

SIGNED_FIELDS = (
    "isic_id",
    "prompt",
    "seed",
    "adapter_sha256",
    "base_sha256",
    "num_inference_steps",
    "guidance_scale",
    "license",
)
"""Fields of the record that are in that assertion."""

PURPOSES = {
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "documentSigning": "1.3.6.1.5.5.7.3.36",
    "c2pa-kp-claimSigning": "1.3.6.1.4.1.62558.2.1",
}
"""Extended key usages, one of which a signer's certificate must have. c2pa-python takes the first alone unless told."""

SETTINGS: dict[str, Any] = {
    "version": 1,
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}

UNTRUSTED = "signingCredential.untrusted"
"""Status code of a signature whose certificate no trusted authority has issued."""

State = Literal["none", "valid", "trusted", "invalid"]


@dataclass(frozen=True)
class CredentialState:
    """What the content credentials of a file are worth.

    Attributes:
        state: "none": the file has none. "valid": signed, and unchanged since; who signed is not known, as anybody can
            make such a certificate. "trusted": valid, and the certificate comes from an authority that the reader
            trusts. "invalid": the file was changed after it was signed, or the signature is wrong.
        reasons: C2PA's status codes with their explanations, of everything that speaks against the credentials.
        signer: name and organisation in the certificate; only worth something when trusted.
        digital_source_type: of the action that created the image.
        generation: what the signed assertion says the image was made with.
    """

    state: State
    reasons: tuple[str, ...] = ()
    signer: str | None = None
    digital_source_type: str | None = None
    generation: dict[str, Any] | None = None


class Signer:
    """Signs generated images with one certificate; one object may serve several threads."""

    def __init__(self, cert: Path, key: Path, *, timestamp_authority: str | None = None) -> None:
        """Load certificate and key, and prove them by signing a small picture.

        Args:
            cert: PEM, the signer's certificate first, then those that issued it, without the root.
            key: PEM, the private key without a password.
            timestamp_authority: address of an RFC 3161 service, asked for every signature; None asks nobody.

        Raises:
            InputError: a file that cannot be used, a key of another certificate, a certificate that C2PA refuses.
        """
        self._c2pa = _package()
        algorithm, chain, private = read_signer(cert, key)
        self.cert = cert
        self.timestamp_authority = timestamp_authority
        try:
            information = self._c2pa.C2paSignerInfo(algorithm, chain, private, timestamp_authority)
            self._signer = self._c2pa.Signer.from_info(information)
        except self._c2pa.C2paError as error:
            raise _refused(cert, str(error)) from None
        self._context = _context(None)
        self._prove()

    def sign(self, png: bytes, record: PairRecord) -> bytes:
        """Return ``png`` with a signed manifest; its pixels and the rest of its metadata stay as they are.

        The manifest says that a trained model created the image (c2pa.created), with what software, and holds
        `SIGNED_FIELDS` of the record. Each signature has random parts: signing twice gives different bytes.

        Args:
            png: the file, with its record and XMP already inside.
            record: of the image, with ``origin`` "synthetic".

        Raises:
            InputError: the record is of a real photograph, or the file cannot be signed.
        """
        if record.origin != "synthetic":
            raise InputError(
                f"{record.isic_id} with origin {record.origin!r}",
                "a generated image: a photograph must not be signed as generated media",
                "leave real photographs as they are",
            )
        try:
            return self._signed(png, record)
        except self._c2pa.C2paError as error:
            raise InputError(
                f"{record.isic_id}, which could not be signed ({error})",
                "a whole PNG file" + (" and a timestamp" if self.timestamp_authority else ""),
                f"see whether {self.timestamp_authority} answers" if self.timestamp_authority else "write it again",
            ) from None

    def _signed(self, png: bytes, record: PairRecord) -> bytes:
        output = io.BytesIO()
        with self._c2pa.Builder(_manifest(record), context=self._context) as builder:
            builder.sign(self._signer, "image/png", io.BytesIO(png), output)
        return output.getvalue()

    def _prove(self) -> None:
        trial = PairRecord(file_name="trial.png", isic_id="trial", origin="synthetic")
        try:
            state = credentials_in(self._signed(png_bytes(Image.new("RGB", (8, 8))), trial))
        except self._c2pa.C2paError as error:
            raise _refused(self.cert, str(error)) from None
        if state.state == "invalid":
            raise _refused(self.cert, "; ".join(state.reasons))


def read_credentials(path: Path, *, anchors: Path | None = None) -> CredentialState:
    """Read and check the content credentials of an image file.

    Args:
        path: the file.
        anchors: PEM file of root certificates to trust; without it no certificate is trusted.

    Raises:
        InputError: no such file, or c2pa-python is not installed.
    """
    if not path.is_file():
        raise InputError(f"no file {path}", "an image file", "check the path")
    return credentials_in(path.read_bytes(), anchors=None if anchors is None else check_anchors(anchors))


def check_anchors(path: Path) -> bytes:
    """Read a PEM file of root certificates to trust.

    Raises:
        InputError: it cannot be read, holds no certificate, or c2pa-python is not installed.
    """
    anchors = read_pem(path)
    try:
        _context(anchors)
    except _package().C2paError as error:
        raise InputError(f"{path} ({error})", "root certificates as PEM", "check the file") from None
    return anchors


def checkable() -> bool:
    """Whether c2pa-python is installed, without which credentials cannot be checked."""
    return find_spec("c2pa") is not None


def may_have_credentials(data: bytes) -> bool:
    """Whether a file holds the box names of a C2PA manifest; False is certain, True worth a look."""
    return b"c2pa" in data and b"jumb" in data


def credentials_in(data: bytes, *, anchors: bytes | None = None) -> CredentialState:
    """As `read_credentials`, of the content of a file and with ``anchors`` as PEM."""
    if not may_have_credentials(data):
        return CredentialState("none")
    package = _package()
    try:
        reader = package.Reader.try_create(None, io.BytesIO(data), context=_context(anchors))
    except package.C2paError as error:
        return CredentialState("invalid", (str(error),))
    if reader is None:
        return CredentialState("none")
    with reader:
        results = reader.get_validation_results() or {}
        manifest = reader.get_active_manifest() or {}
        verdict = reader.get_validation_state()
    state: State = "trusted" if verdict == "Trusted" else "valid" if verdict == "Valid" else "invalid"
    failures = (results.get("activeManifest") or {}).get("failure") or []
    reasons = tuple(
        f"{failure['code']}: {failure.get('explanation', '')}"
        for failure in failures
        if state == "valid" or failure["code"] != UNTRUSTED  # an unknown signer is not what makes it invalid
    )
    return CredentialState(state, reasons, _signer_of(manifest), *_statements(manifest))


def _signer_of(manifest: dict[str, Any]) -> str | None:
    signature = manifest.get("signature_info") or {}
    return ", ".join(signature[key] for key in ("common_name", "issuer") if signature.get(key)) or None


def _statements(manifest: dict[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """The digital source type of the creation, and our assertion; anybody may have written the manifest."""
    source, generation = None, None
    for assertion in manifest.get("assertions", []):
        label, data = assertion.get("label", ""), assertion.get("data")
        if not isinstance(data, dict):
            continue
        if label == GENERATION_ASSERTION:
            generation = data
        elif label.startswith("c2pa.actions"):
            for action in data.get("actions", []):
                if action.get("action") == "c2pa.created":
                    source = action.get("digitalSourceType")
    return source, generation


def _manifest(record: PairRecord) -> str:
    software = {"name": "skindualgen", "version": metadata.version("skindualgen")}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": TRAINED_ALGORITHMIC_MEDIA,
        "softwareAgent": software,
    }
    generation = record.model_dump(include=set(SIGNED_FIELDS), exclude_none=True)
    manifest = {
        "claim_generator_info": [software],
        "title": record.isic_id,
        "format": "image/png",
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": [created]}},
            {"label": GENERATION_ASSERTION, "data": generation},
        ],
    }
    return json.dumps(manifest)


def _refused(cert: Path, reason: str) -> InputError:
    return InputError(
        f"{cert}, which C2PA does not take ({reason})",
        "an end-entity certificate in its validity period, not self-signed, with key usage digitalSignature and "
        f"extended key usage {' or '.join(PURPOSES)}; and a timestamp service that answers, if one is named",
        "see docs/provenance.md for a certificate to test with",
    )


@cache
def _context(anchors: bytes | None) -> Any:
    """A reusable set of settings; the root certificates ``anchors``, PEM, are trusted."""
    trust = {"trust_config": "\n".join(PURPOSES.values())}
    if anchors is not None:
        trust["user_anchors"] = anchors.decode("utf-8", "replace")
    return _package().Context.from_dict(SETTINGS | {"trust": trust})


def _package() -> ModuleType:
    try:
        return import_module("c2pa")
    except ImportError as error:
        raise InputError(
            "no package c2pa-python", "signed content credentials", "pip install 'skindualgen[provenance]'"
        ) from error
