"""The signer's certificate and key, read and checked before anything is signed."""

from __future__ import annotations

from pathlib import Path

from skindualgen.contracts import InputError

CURVE_ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
"""Curve of an elliptic key -> C2PA's name of the signature algorithm."""


def read_signer(cert: Path, key: Path) -> tuple[str, bytes, bytes]:
    """Read certificate and key; return the signature algorithm's name with both as PEM.

    Raises:
        InputError: a file cannot be read, the key is of another certificate, or C2PA knows no algorithm for it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    chain, private = (read_pem(path) for path in (cert, key))
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise InputError(f"{cert} ({error})", "certificates as PEM", "give the signer's certificate first") from None
    try:
        loaded = load_pem_private_key(private, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise InputError(f"{key} ({error})", "a private key as PEM, without a password", "convert the key") from None
    public = certificate.public_key()
    if loaded.public_key() != public:
        raise InputError(f"{key}, which is not the key of {cert}", "the key of the first certificate", "check both")
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVE_ALGORITHMS:
        return CURVE_ALGORITHMS[public.curve.name], chain, private
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "ed25519", chain, private
    if isinstance(public, rsa.RSAPublicKey):
        return "ps256", chain, private
    raise InputError(f"{cert} with a {type(public).__name__}", "ES256, ES384, ES512, Ed25519 or RSA", "use another key")


def read_pem(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} ({error.strerror})", "a readable PEM file", "check the path") from None
