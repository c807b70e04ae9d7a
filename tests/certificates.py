"""Keys and the certificates that vouch for them, as C2PA wants them (its specification, 14.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

KEYS: dict[str, Callable[[], Key]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "weak": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - to be refused
    "other curve": lambda: ec.generate_private_key(ec.SECP256K1()),
}


@dataclass(frozen=True)
class Chain:
    """A signer's files, and the root that a reader may trust."""

    certificates: Path
    key: Path
    root: str


def chain(
    folder: Path,
    kind: str = "ed25519",
    *,
    days: tuple[int, int] = (-1, 30),
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    password: bytes | None = None,
) -> Chain:
    """Writes a signer's certificate, followed by its issuer's, and its key, into ``folder``.

    Args:
        days: from today, for which the signer's certificate holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = ed25519.Ed25519PrivateKey.generate()
    root = _certificate("Root", authority, "Root", authority, (-400, 400), usage=None)
    key = KEYS[kind]()
    leaf = _certificate("Signer", key, "Root", authority, days, usage)
    certificates, secret = folder / "certificates.pem", folder / "key.pem"
    certificates.write_bytes(_pem(leaf, root))
    hiding = BestAvailableEncryption(password) if password else NoEncryption()
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hiding))
    return Chain(certificates, secret, _pem(root).decode())


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _certificate(
    name: str,
    key: Key,
    issuer: str,
    authority: ed25519.Ed25519PrivateKey,
    days: Sequence[int],
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    """Of an authority where it has no ``usage``."""
    begin, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    signs = usage is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=not signs, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=signs,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=not signs,
                crl_sign=not signs,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if usage is not None:
        issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        builder = builder.add_extension(issuers, critical=False).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
    return builder.sign(authority, None)


def _name(common: str) -> x509.Name:
    attributes = {NameOID.ORGANIZATION_NAME: "Example", NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes.items()])
