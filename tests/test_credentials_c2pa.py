"""Signed content credentials, with certificates made here."""

from __future__ import annotations

import io
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image

from certificates import Chain, write_chain
from skindualgen.contracts import InputError, PairRecord
from skindualgen.marks.c2pa import SIGNED_FIELDS, Signer, credentials_in, read_credentials
from skindualgen.marks.embed import embedded_in, image_png
from skindualgen.marks.xmp import TRAINED_ALGORITHMIC_MEDIA

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
RECORD = PairRecord(
    file_name="images/SDG_0000001.png",
    isic_id="SDG_0000001",
    prompt='a nevus of an "ä"',
    origin="synthetic",
    source="skindualgen 0.1.0",
    license="CC0-1.0",
    seed=2**63 - 1,
    adapter_sha256="a" * 64,
    base_sha256="b" * 64,
    guidance_scale=3.5,
    num_inference_steps=20,
    diagnosis="nevus",
)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return write_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def png() -> bytes:
    return image_png(Image.fromarray(PIXELS), RECORD)


@pytest.fixture(scope="module")
def signed(chain: Chain, png: bytes) -> bytes:
    return Signer(chain.cert, chain.key).sign(png, RECORD)


def test_a_signed_image_reads_back_as_valid_of_an_unknown_signer(signed: bytes) -> None:
    state = credentials_in(signed)
    assert state.state == "valid"
    assert [reason.partition(":")[0] for reason in state.reasons] == ["signingCredential.untrusted"]
    assert state.signer == "Test Signer, Test"
    assert state.digital_source_type == TRAINED_ALGORITHMIC_MEDIA
    assert state.generation == {field: getattr(RECORD, field) for field in SIGNED_FIELDS}


def test_who_trusts_the_root_trusts_the_signature(tmp_path: Path, chain: Chain, signed: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(signed)
    assert read_credentials(path).state == "valid"
    trusted = read_credentials(path, anchors=chain.root)
    assert (trusted.state, trusted.reasons) == ("trusted", ())
    assert read_credentials(path, anchors=write_chain(tmp_path / "other").root).state == "valid"


def test_signing_leaves_pixels_text_and_xmp(png: bytes, signed: bytes) -> None:
    before, after = Image.open(io.BytesIO(png)), Image.open(io.BytesIO(signed))
    assert (np.asarray(after) == PIXELS).all()
    assert embedded_in(after) == embedded_in(before) and embedded_in(after).record is not None


def test_signing_twice_gives_other_bytes_and_the_same_statements(chain: Chain, png: bytes, signed: bytes) -> None:
    again = Signer(chain.cert, chain.key).sign(png, RECORD)
    assert again != signed
    assert credentials_in(again) == credentials_in(signed)


def test_an_image_without_credentials_has_none(png: bytes) -> None:
    assert credentials_in(png).state == "none"
    assert credentials_in(png + b"c2pa jumb").state == "none"  # the words alone make no manifest


def test_a_changed_pixel_a_changed_statement_and_a_cut_are_invalid(signed: bytes) -> None:
    pixel = bytearray(signed)
    pixel[signed.rindex(b"IDAT") + 40] ^= 1
    state = credentials_in(bytes(pixel))
    assert state.state == "invalid"
    assert [reason.partition(":")[0] for reason in state.reasons] == ["assertion.dataHash.mismatch"]
    statement = bytearray(signed)
    statement[signed.index(b"a nevus", signed.index(b"caBX"))] ^= 1
    state = credentials_in(bytes(statement))
    assert state.state == "invalid"
    assert [reason.partition(":")[0] for reason in state.reasons] == ["assertion.hashedURI.mismatch"]
    cut = signed[: signed.index(b"caBX") + 1500]
    assert credentials_in(cut).state == "invalid"


@pytest.mark.parametrize("kind", ["p384", "p521", "ed25519", "rsa"])
def test_every_kind_of_key_that_c2pa_knows(tmp_path: Path, png: bytes, kind: str) -> None:
    chain = write_chain(tmp_path, kind=kind)
    assert credentials_in(Signer(chain.cert, chain.key).sign(png, RECORD)).state == "valid"


@pytest.mark.parametrize("usage", ["1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.62558.2.1"])
def test_the_key_usages_of_the_specification(tmp_path: Path, png: bytes, usage: str) -> None:
    """emailProtection, documentSigning and c2pa-kp-claimSigning, by their numbers."""
    chain = write_chain(tmp_path, usage=ObjectIdentifier(usage))
    signed = Signer(chain.cert, chain.key).sign(png, RECORD)
    assert credentials_in(signed, anchors=chain.root.read_bytes()).state == "trusted"


@pytest.mark.parametrize("usage", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
def test_certificates_for_something_else_are_refused(tmp_path: Path, usage: ObjectIdentifier) -> None:
    chain = write_chain(tmp_path, usage=usage)
    with pytest.raises(InputError, match="which C2PA does not take"):
        Signer(chain.cert, chain.key)


def test_certificates_and_keys_that_cannot_sign_are_refused_before_any_image(tmp_path: Path, chain: Chain) -> None:
    other, locked = write_chain(tmp_path / "other"), write_chain(tmp_path / "locked", password=b"secret")
    expired, curve = write_chain(tmp_path / "expired", days=-1), write_chain(tmp_path / "curve", kind="k256")
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for cert, key, message in (
        (chain.cert, other.key, "which is not the key of"),
        (chain.root, chain.key, "which is not the key of"),
        (locked.cert, locked.key, "without a password"),
        (expired.cert, expired.key, "which C2PA does not take"),
        (curve.cert, curve.key, "expected ES256, ES384"),
        (junk, chain.key, "certificates as PEM"),
        (chain.cert, junk, "a private key as PEM"),
        (tmp_path / "nothing", chain.key, "a readable PEM file"),
    ):
        with pytest.raises(InputError, match=message):
            Signer(cert, key)


def test_a_photograph_is_never_signed_as_generated(chain: Chain, png: bytes) -> None:
    with pytest.raises(InputError, match="ISIC_1 with origin 'real'"):
        Signer(chain.cert, chain.key).sign(png, PairRecord(file_name="a.png", isic_id="ISIC_1"))


def test_what_is_no_png_is_refused(chain: Chain) -> None:
    with pytest.raises(InputError, match="SDG_0000001, which could not be signed"):
        Signer(chain.cert, chain.key).sign(b"no picture", RECORD)


def test_several_threads_share_a_signer(chain: Chain, png: bytes) -> None:
    signer = Signer(chain.cert, chain.key)
    records = [RECORD.model_copy(update={"seed": seed}) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(credentials_in, pool.map(lambda record: signer.sign(png, record), records)))
    assert [(state.generation or {})["seed"] for state in states] == list(range(24))
    assert {state.state for state in states} == {"valid"}


def test_a_timestamp_service_is_asked_only_if_named(chain: Chain) -> None:
    """The service here takes the connection and says nothing useful: signing with it fails, without it succeeds."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(20)

        def answer() -> bytes:
            connection, _ = server.accept()
            with connection:
                request = connection.recv(65536)
                connection.sendall(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return request

        asked = pool.submit(answer)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(InputError, match="timestamp service that answers"):
            Signer(chain.cert, chain.key, timestamp_authority=address)
        assert asked.result().startswith(b"POST / HTTP/1.1")


def test_trust_anchors_that_are_none(tmp_path: Path, signed: bytes) -> None:
    image, junk = tmp_path / "a.png", tmp_path / "junk.pem"
    image.write_bytes(signed)
    junk.write_text("no certificate")
    for anchors in (junk, tmp_path / "nothing.pem"):
        with pytest.raises(InputError, match=r"as PEM|PEM file"):
            read_credentials(image, anchors=anchors)
    with pytest.raises(InputError, match="no file"):
        read_credentials(tmp_path / "nothing.png")


def test_a_manifest_of_others_is_read_without_ours(chain: Chain, png: bytes) -> None:
    """Another program's manifest: no assertion of ours, an edit instead of a creation."""
    import c2pa

    info = c2pa.C2paSignerInfo("es256", chain.cert.read_bytes(), chain.key.read_bytes(), None)
    opened = {"action": "c2pa.created", "digitalSourceType": "http://c2pa.org/digitalsourcetype/empty"}
    manifest = {"assertions": [{"label": "c2pa.actions", "data": {"actions": [opened]}}], "format": "image/png"}
    output = io.BytesIO()
    context = c2pa.Context.from_dict({"version": 1, "builder": {"thumbnail": {"enabled": False}}})
    with c2pa.Builder(json.dumps(manifest), context=context) as builder, c2pa.Signer.from_info(info) as signer:
        builder.sign(signer, "image/png", io.BytesIO(png), output)
    state = credentials_in(output.getvalue())
    assert (state.state, state.generation) == ("valid", None)
    assert state.digital_source_type == "http://c2pa.org/digitalsourcetype/empty"


def test_without_the_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, chain: Chain, signed: bytes, png: bytes
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    for call in (lambda: Signer(chain.cert, chain.key), lambda: credentials_in(signed)):
        with pytest.raises(InputError, match=r"pip install 'skindualgen\[provenance\]'"):
            call()
    assert credentials_in(png).state == "none"  # no package is needed to see that there is nothing
