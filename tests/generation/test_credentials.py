"""If these fail, signed files are not what they claim, or a key that cannot sign is found late."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image

from app.engine import ImageFailed
from app.generation.credentials import Credentials, CredentialsError
from app.generation.output import MEDIA_TYPES, Format, Metadata, Output, encode, encode_animation
from app.metrics import installed_version
from model.request import Picture
from tests.certificates import Chain, chain

METADATA = Metadata(prompt="a", seed=7, model="tiny", numerics="a1b2")
PICTURE = Picture(16, 16, 3, bytes(range(256)) * 3)


def manifest(file: bytes, form: Format, root: str | None = None) -> tuple[str, dict[str, Any]]:
    """What the library's reader finds: a state, and the manifest."""
    trust = {} if root is None else {"trust": {"trust_anchors": root}}
    context = c2pa.Context.from_dict(trust)
    with c2pa.Reader(MEDIA_TYPES[form], BytesIO(file), context=context) as reader:
        return reader.get_validation_state(), json.loads(reader.json())


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Credentials, Chain]:
    made = chain(tmp_path_factory.mktemp("chain"))
    return Credentials(made.certificates, made.key), made


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("generate", "trainedAlgorithmicMedia"),
        ("inpaint", "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_a_signed_file_says_who_made_it_and_changes_no_pixel(
    signer: tuple[Credentials, Chain], form: Format, operation: str, kind: str
) -> None:
    credentials, made = signer
    metadata = Metadata("a", 7, "tiny", "a1b2", operation)
    plain = encode(PICTURE, Output(form, 16, 16, "ffffff", 90), metadata)
    signed = credentials.sign(plain, form, metadata.source)
    state, found = manifest(signed, form, made.root)
    assert state == "Trusted"
    said = found["manifests"][found["active_manifest"]]
    (generator,) = said["claim_generator_info"]
    assert (generator["name"], generator["version"]) == ("Tessera", installed_version())
    (actions,) = [each["data"] for each in said["assertions"] if "actions" in each["label"]]
    source = f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
    assert actions["actions"] == [{"action": "c2pa.created", "digitalSourceType": source}]
    with Image.open(BytesIO(signed)) as one, Image.open(BytesIO(plain)) as other:
        assert one.tobytes() == other.tobytes()
        assert (one.info.get("xmp"), one.getexif()) == (other.info.get("xmp"), other.getexif())
    assert len(signed) - len(plain) < 6000


def test_what_was_changed_afterwards_is_found(signer: tuple[Credentials, Chain]) -> None:
    credentials, _ = signer
    file = encode(PICTURE, Output("png", 16, 16, "ffffff", 90), METADATA)
    signed = bytearray(credentials.sign(file, "png", METADATA.source))
    assert manifest(bytes(signed), "png")[0] == "Valid"
    signed[signed.index(b"IDAT") + 8] ^= 1
    assert manifest(bytes(signed), "png")[0] == "Invalid"


@pytest.mark.parametrize("form", ["png", "webp"])
def test_animations_are_signed_too(signer: tuple[Credentials, Chain], form: Format) -> None:
    frames = [Picture(2, 2, 3, bytes([shade, 0, 0] * 4)) for shade in (0, 100, 200)]
    file = encode_animation(frames, Output(form, 2, 2, "ffffff", 90), METADATA)
    signed = signer[0].sign(file, form, METADATA.source)
    assert manifest(signed, form)[0] == "Valid"
    with Image.open(BytesIO(signed)) as image:
        assert getattr(image, "n_frames", 1) == 3


def test_what_cannot_be_signed_fails_alone(signer: tuple[Credentials, Chain]) -> None:
    with pytest.raises(ImageFailed, match="could not be signed: "):
        signer[0].sign(b"no picture", "png", METADATA.source)


def test_threads_share_a_signer(signer: tuple[Credentials, Chain]) -> None:
    file = encode(PICTURE, Output("png", 16, 16, "ffffff", 90), METADATA)
    with ThreadPoolExecutor(4) as threads:
        signed = list(
            threads.map(lambda _: signer[0].sign(file, "png", METADATA.source), range(64))
        )
    assert {manifest(one, "png")[0] for one in signed} == {"Valid"}


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_other_keys_sign(kind: str, tmp_path: Path) -> None:
    made = chain(tmp_path, kind)
    file = encode(PICTURE, Output("jpeg", 16, 16, "ffffff", 90), METADATA)
    signed = Credentials(made.certificates, made.key).sign(file, "jpeg", METADATA.source)
    assert manifest(signed, "jpeg", made.root)[0] == "Trusted"


def mixed(folder: Path) -> Chain:
    one, other = chain(folder / "one"), chain(folder / "other")
    return Chain(one.certificates, other.key, one.root)


def rewritten(folder: Path, name: str, content: bytes | None) -> Chain:
    made = chain(folder)
    path = getattr(made, name)
    path.unlink() if content is None else path.write_bytes(content)
    return made


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: rewritten(folder, "key", None), "C2PA_KEY: .*No such file or directory"),
        (lambda folder: rewritten(folder, "certificates", None), "C2PA_CERTIFICATES: .*No such"),
        (lambda folder: rewritten(folder, "key", b"\0nonsense"), "C2PA_KEY: .*no PEM private key"),
        (lambda folder: rewritten(folder, "certificates", b""), "no PEM certificates"),
        (lambda folder: chain(folder, password=b"secret"), "C2PA_KEY: .*is encrypted"),
        (lambda folder: chain(folder, "weak"), "C2PA_KEY: .*Ed25519, P-256"),
        (lambda folder: chain(folder, "other curve"), "C2PA_KEY: .*Ed25519, P-256"),
        (mixed, "is not the key of the first certificate"),
        (lambda folder: chain(folder, days=(-30, -1)), "C2PA_CERTIFICATES: .*not today"),
        (lambda folder: chain(folder, days=(1, 30)), "C2PA_CERTIFICATES: .*not today"),
        (
            lambda folder: chain(folder, usage=ExtendedKeyUsageOID.SERVER_AUTH),
            "C2PA_CERTIFICATES: .*the certificate is invalid",
        ),
    ],
)
def test_what_cannot_sign_is_refused_in_a_line(
    make: Callable[[Path], Chain], says: str, tmp_path: Path
) -> None:
    made = make(tmp_path / "chain")
    with pytest.raises(CredentialsError, match=says) as error:
        Credentials(made.certificates, made.key)
    assert "\n" not in str(error.value)


def test_off_it_imports_nothing() -> None:
    code = "import app.main, sys; sys.exit(bool({'c2pa', 'cryptography'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
