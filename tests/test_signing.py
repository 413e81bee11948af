"""Signed bundles: who is trusted, what a change does to a signature, and what is refused."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from lnsdk import Detector, InputError, load
from lnsdk.bundle import SIGNATURES, read_bundle
from lnsdk.cli.__main__ import main
from lnsdk.export.bundle import update_files
from lnsdk.signing import PublicKey, check_trusted, sign
from tests.toy_bundle import write_bundle, write_toy_bundle

FILES = {"models/image.onnx": b"not a network", "docs/README.md": b"# card\n"}


def write_keys(
    folder: Path,
    name: str,
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | None = None,
    encryption: KeySerializationEncryption | None = None,
) -> tuple[Path, Path]:
    """Private and public key as PEM files."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", FILES)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "own")


def refused(path: Path, *trusted: PublicKey) -> str:
    with pytest.raises(InputError) as caught:
        check_trusted(read_bundle(path), trusted)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_signature_is_trusted(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    before = read_bundle(bundle).sha256
    signature = sign(bundle, private)
    assert read_bundle(bundle).sha256 == before
    assert read_bundle(bundle).signatures == (signature,)
    _, other = write_keys(tmp_path, "other")
    for trusted in ([public], [str(public)], [bytes.fromhex(signature.key)], [other, public]):
        assert check_trusted(read_bundle(bundle), trusted) == signature.key
    assert refused(bundle, other) == "bundle-untrusted"


def test_every_signer_may_be_the_trusted_one(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    second, second_public = write_keys(tmp_path, "second")
    for private in (keys[0], second, keys[0]):
        sign(bundle, private)
    assert len(read_bundle(bundle).signatures) == 2
    check_trusted(read_bundle(bundle), [keys[1]])
    check_trusted(read_bundle(bundle), [second_public])


def test_a_zip_is_signed_once(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "toy"), "zip", tmp_path, "bundle"))
    sign(archive, keys[0])
    check_trusted(read_bundle(archive), [keys[1]])
    with zipfile.ZipFile(archive) as content:
        assert f"bundle/{SIGNATURES}" in content.namelist()
    with pytest.raises(InputError, match="sign the folder and zip it again"):
        sign(archive, keys[0])


def test_unsigned_bundles_are_refused_where_keys_are_given(bundle: Path, keys: tuple[Path, Path]) -> None:
    assert refused(bundle, keys[1]) == "bundle-unsigned"
    with pytest.raises(ValueError, match="at least one public key"):
        check_trusted(read_bundle(bundle), [])
    with pytest.raises(TypeError, match="must be a list of keys, got str"):
        check_trusted(read_bundle(bundle), str(keys[1]))


def test_the_signature_of_another_bundle_is_refused(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign(bundle, keys[0])
    other = write_bundle(tmp_path / "other", FILES | {"docs/README.md": b"# another\n"})
    shutil.copyfile(bundle / SIGNATURES, other / SIGNATURES)
    assert refused(other, keys[1]) == "bundle-signature-wrong"


def test_a_changed_bundle_is_no_longer_signed(bundle: Path, keys: tuple[Path, Path]) -> None:
    sign(bundle, keys[0])
    (bundle / "docs/README.md").write_text("# changed\n")
    with pytest.raises(InputError, match=r"docs/README\.md does not match its SHA-256"):
        read_bundle(bundle)
    update_files(bundle, "docs/")
    assert refused(bundle, keys[1]) == "bundle-unsigned"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"signatures": 7}',
        '{"signatures": [{"key": "00"}]}',
        '{"signatures": [{"key": "00", "signature": "00"}]}',
        '{"signatures": [{"key": 5, "signature": 5}]}',
        '{"signatures": [{"key": "zz", "signature": "zz"}]}',
        "[" * 100_000,
    ],
)
def test_signatures_that_are_none_are_refused(bundle: Path, content: str) -> None:
    (bundle / SIGNATURES).write_text(content)
    with pytest.raises(InputError, match=r"configs/signatures\.json"):
        read_bundle(bundle)


def test_keys_that_cannot_be_used(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    rsa_private, rsa_public = write_keys(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    locked, locked_public = write_keys(tmp_path, "locked", encryption=BestAvailableEncryption(b"secret"))
    for path, words in (
        (tmp_path / "none.pem", "cannot read"),
        (public, "is no private key in PEM"),
        (rsa_private, "another kind"),
        (locked, "locked.pem: Password was not given"),
    ):
        with pytest.raises(InputError, match=words):
            sign(bundle, path)
    with pytest.raises(InputError, match="the password is wrong"):
        sign(bundle, locked, b"wrong")
    sign(bundle, locked, b"secret")
    check_trusted(read_bundle(bundle), [locked_public])
    for key, words in (
        (tmp_path / "none.pem", "cannot read"),
        (private, "is no public key in PEM"),
        (rsa_public, "another kind"),
        (b"short", "32 bytes"),
    ):
        with pytest.raises(InputError, match=words):
            check_trusted(read_bundle(bundle), [key])


def test_a_detector_for_signed_models_only(keys: tuple[Path, Path], tmp_path: Path) -> None:
    toy = write_toy_bundle(tmp_path / "toy")
    with pytest.raises(InputError, match="is not signed"):
        Detector(toy, trusted_keys=[keys[1]])
    sign(toy, keys[0])
    assert Detector(toy, trusted_keys=[keys[1]]).provenance.model == "toy"
    assert load(read_bundle(toy).path, trusted_keys=[keys[1]]).provenance.model == "toy"
    with pytest.raises(ValueError, match="at least one public key"):
        Detector(toy, trusted_keys=[])


def test_commands(bundle: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = map(str, keys)
    assert main(["bundle", "verify", str(bundle)]) == 0
    assert "signatures were not checked" in capsys.readouterr().err
    assert main(["bundle", "verify", str(bundle), "--trusted-key", public]) == 2
    assert "is not signed" in capsys.readouterr().err
    assert main(["bundle", "sign", str(bundle), "--key", private]) == 0
    key = json.loads((bundle / SIGNATURES).read_text())["signatures"][0]["key"]
    assert key in capsys.readouterr().out
    assert main(["bundle", "verify", str(bundle), "--trusted-key", public]) == 0
    assert f"signed by the trusted key {key}" in capsys.readouterr().out
    arguments = [
        "detect",
        str(tmp_path),
        "-o",
        str(tmp_path / "out"),
        "--bundle",
        str(bundle),
        "--trusted-key",
        private,
    ]
    assert main(arguments) == 2
    assert "is no public key in PEM" in capsys.readouterr().err
