"""Content Credentials: files signed with the operator's key, as C2PA says (the extra "c2pa").

A manifest says that a machine made the image, or a part of it, and with what program; its signature
covers the whole file. Off unless it is set, and then nothing of the library is imported. Manifests
have random salts: two signatures of one file differ, and no pixel does.
"""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from app.engine import ImageFailed
from app.generation.output import MEDIA_TYPES, SOFTWARE, Format
from app.metrics import installed_version

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

logger = logging.getLogger(__name__)

CERTIFICATES, KEY = "TESSERA_C2PA_CERTIFICATES", "TESSERA_C2PA_KEY"

SMALLEST_RSA = 2048
"""Bits, as the specification has it."""

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

_SETTINGS: dict[str, Any] = {
    # Thumbnails would double small files, and one signature was verified at the start.
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_after_sign": False},
}


class CredentialsError(ValueError):
    """Why nothing can be signed. ``str()`` is a line that names the setting."""


class Credentials:
    """Signs files. For any thread, and for several at once; keeps no state between files.

    Args:
        certificates: a PEM file with the signer's certificate and then those that vouch for it.
        key: a PEM file with its private key, unencrypted.

    Raises `CredentialsError` for what cannot be read, does not belong together, has expired, or is
    against C2PA's rules for certificates: a file is signed and verified.
    """

    def __init__(self, certificates: Path, key: Path) -> None:
        try:
            import c2pa
        except ImportError as error:
            message = f'{KEY}: needs the extra "c2pa": pip install "tessera-serve[c2pa]"'
            raise CredentialsError(message) from error
        self._library = c2pa
        chain, private = _read(CERTIFICATES, certificates), _read(KEY, key)
        certificate, algorithm = _checked(certificates, chain, key, private)
        self.until = certificate.not_valid_after_utc
        self.name = hashlib.sha256(chain + c2pa.sdk_version().encode()).hexdigest()[:16]
        """Changes with whatever a reader may tell two signers by."""
        self.signer = certificate.subject.rfc4514_string()
        try:
            self._context = c2pa.Context.from_dict(_SETTINGS)
            info = c2pa.C2paSignerInfo(algorithm, chain, private, None)  # asks no time server
            self._signer = c2pa.Signer.from_info(info)
            self._try()
        except c2pa.C2paError as error:
            raise CredentialsError(f"{CERTIFICATES}: {certificates}: {_reason(error)}") from error

    @property
    def expired(self) -> bool:
        """Whether the certificate has come to its end, after which nothing is signed."""
        return datetime.now(UTC) > self.until

    def sign(self, file: bytes, format_: Format, source: str) -> bytes:
        """The same picture with a manifest; ``source`` is IPTC's address of a source type.

        Raises `ImageFailed`, as where the certificate has ended meanwhile.
        """
        try:
            return self._sign(file, format_, source)
        except self._library.C2paError as error:
            logger.exception("an image was not signed")
            raise ImageFailed(f"the image could not be signed: {_reason(error)}") from error

    def _sign(self, file: bytes, format_: Format, source: str) -> bytes:
        manifest = {
            "claim_generator_info": [{"name": SOFTWARE, "version": installed_version()}],
            "assertions": [
                {
                    "label": "c2pa.actions",
                    "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": source}]},
                }
            ],
        }
        signed = BytesIO()
        with self._library.Builder(json.dumps(manifest), self._context) as builder:
            builder.sign(self._signer, MEDIA_TYPES[format_], BytesIO(file), signed)
        return signed.getvalue()

    def _try(self) -> None:
        """Raises the library's error where its reader does not accept what its writer signs."""
        file = BytesIO()
        Image.new("L", (1, 1)).save(file, "PNG")
        signed = self._sign(file.getvalue(), "png", "")
        with self._library.Reader(MEDIA_TYPES["png"], BytesIO(signed)) as reader:
            if reader.get_validation_state() == "Invalid":
                raise self._library.C2paError("its signatures are not valid")


def _reason(error: Exception) -> str:
    """Without the library's name of its kind."""
    return str(error).rpartition(": ")[2]


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsError(f"{setting}: {path}: {error.strerror}") from error


def _checked(
    certificates: Path, chain: bytes, key: Path, private: bytes
) -> tuple[Certificate, str]:
    """The signer's certificate, and C2PA's name for the key's algorithm."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise CredentialsError(f"{CERTIFICATES}: {certificates}: no PEM certificates") from error
    try:
        secret = load_pem_private_key(private, None)
    except TypeError as error:
        raise CredentialsError(f"{KEY}: {key}: is encrypted; a plain one is needed") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialsError(f"{KEY}: {key}: no PEM private key") from error
    algorithm = _algorithm(secret)
    if algorithm is None:
        accepted = f"Ed25519, P-256, P-384, P-521 and RSA of {SMALLEST_RSA} bits and more"
        raise CredentialsError(f"{KEY}: {key}: such keys do not sign; {accepted} do")
    if secret.public_key() != certificate.public_key():
        message = f"is not the key of the first certificate in {certificates}"
        raise CredentialsError(f"{KEY}: {key}: {message}")
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        span = f"{certificate.not_valid_before_utc:%F} to {certificate.not_valid_after_utc:%F}"
        raise CredentialsError(f"{CERTIFICATES}: {certificates}: holds from {span}, not today")
    return certificate, algorithm


def _algorithm(key: object) -> str | None:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    match key:
        case Ed25519PrivateKey():
            return "ed25519"
        case EllipticCurvePrivateKey():
            return _CURVES.get(key.curve.name)
        case RSAPrivateKey() if key.key_size >= SMALLEST_RSA:
            return "ps256"
        case _:
            return None
