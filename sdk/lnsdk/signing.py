"""Signed bundles: Ed25519 signatures over the hash that identifies a bundle, byte for byte; needs `cryptography`."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lnsdk.bundle import SIGNATURES, Bundle, BundleSignature, read_bundle
from lnsdk.errors import BackendUnavailable, InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PublicKey = str | Path | bytes
"""An Ed25519 public key: a PEM file, or its 32 bytes."""

PURPOSE = b"lnsdk bundle "
"""Goes before the hash, so that a signature of something else made with the same key is none of a bundle."""

KEY_BYTES = 32

INSTALL = "pip install 'lnsdk[sign]'"


def check_trusted(bundle: Bundle, trusted_keys: Sequence[PublicKey]) -> str:
    """Make sure that somebody who is trusted signed a bundle.

    Parameters
    ----------
    bundle : Bundle
        Read, so that its files are those that its hash stands for.
    trusted_keys : sequence of str, Path or bytes
        Public keys, one of which must have signed.

    Returns
    -------
    str
        The key that did, in hexadecimal.

    Raises
    ------
    ValueError
        When no key is given.
    InputError
        ``bundle-unsigned`` when the bundle carries no signature, ``bundle-untrusted`` when none is a trusted key's,
        ``bundle-signature-wrong`` when a trusted key's signature is of another bundle, ``key`` when a key cannot be
        read.
    BackendUnavailable
        When `cryptography` is not installed.
    """
    if not trusted_keys:
        raise ValueError("trusted_keys must name at least one public key, got none; None accepts unsigned bundles")
    if isinstance(trusted_keys, str | bytes):
        raise TypeError(f"trusted_keys must be a list of keys, got {type(trusted_keys).__name__}")
    trusted = {_raw(key).hex(): key for key in map(_public_key, trusted_keys)}
    if not bundle.signatures:
        raise InputError(
            "bundle-unsigned", f"bundle {bundle.path.name} is not signed; get a signed one, or trust it with `sign`"
        )
    for signature in bundle.signatures:
        if signature.key in trusted:
            _verify(bundle, signature, trusted[signature.key])
            return signature.key
    signers = ", ".join(signature.key[:16] for signature in bundle.signatures)
    raise InputError("bundle-untrusted", f"bundle {bundle.path.name} is signed by {signers}..., which is not trusted")


def sign(path: str | Path, private_key: str | Path, password: bytes | None = None) -> BundleSignature:
    """Sign a bundle; signatures of other keys stay, an older one of the same key is replaced.

    Parameters
    ----------
    path : str or Path
        Folder or zip. All of its files are verified first.
    private_key : str or Path
        PEM file with an Ed25519 private key, as ``openssl genpkey -algorithm ed25519`` writes it.
    password : bytes, optional
        Of an encrypted key.

    Returns
    -------
    BundleSignature
        What was added.

    Raises
    ------
    InputError
        When the bundle cannot be trusted as it is, ``key`` when the key cannot be used, ``bundle-file`` when the
        bundle cannot be written to, or is a zip that carries signatures already.
    BackendUnavailable
        When `cryptography` is not installed.
    """
    bundle = read_bundle(path)
    key = _private_key(Path(private_key), password)
    own = BundleSignature(_raw(key.public_key()).hex(), key.sign(_message(bundle)).hex())
    others = [signature for signature in bundle.signatures if signature.key != own.key]
    _write(bundle, [*others, own])
    return own


def _write(bundle: Bundle, signatures: Sequence[BundleSignature]) -> None:
    text = json.dumps({"signatures": [{"algorithm": "ed25519", **vars(each)} for each in signatures]}, indent=1) + "\n"
    try:
        if bundle.path.is_dir():
            file = bundle.path / SIGNATURES
            partial = file.with_suffix(".partial")
            partial.write_text(text)
            partial.replace(file)
            return
        if bundle.signatures:
            raise InputError(
                "bundle-file",
                f"{bundle.path} is a zip that is signed already; sign the folder and zip it again",
            )
        with zipfile.ZipFile(bundle.path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(bundle.prefix + SIGNATURES, text)
    except OSError as error:
        raise InputError("bundle-file", f"cannot write to {bundle.path}: {error.strerror or error}") from error


def _message(bundle: Bundle) -> bytes:
    return PURPOSE + bundle.sha256.encode()


def _verify(bundle: Bundle, signature: BundleSignature, key: "Ed25519PublicKey") -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(bytes.fromhex(signature.signature), _message(bundle))
    except InvalidSignature as error:
        raise InputError(
            "bundle-signature-wrong",
            f"bundle {bundle.path.name} is not what {signature.key[:16]}... signed: it was changed, or signed wrongly; "
            "get it again",
        ) from error


def _public_key(key: PublicKey) -> "Ed25519PublicKey":
    """A public key from a file or from its bytes."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if isinstance(key, bytes):
        if len(key) != KEY_BYTES:
            raise InputError("key", f"a public key must have {KEY_BYTES} bytes, got {len(key)}; name a PEM file")
        return Ed25519PublicKey.from_public_bytes(key)
    content = _content(Path(key))
    try:
        loaded = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("key", f"{key} is no public key in PEM: `openssl pkey -in KEY -pubout` makes one") from error
    if not isinstance(loaded, Ed25519PublicKey):
        raise InputError("key", f"{key} holds a key of another kind; bundles are signed with Ed25519")
    return loaded


def _private_key(path: Path, password: bytes | None) -> "Ed25519PrivateKey":
    """A private key from a file."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(path)
    try:
        loaded = load_pem_private_key(content, password)
    except TypeError as error:  # encrypted without a password, or the other way round
        raise InputError("key", f"{path}: {error}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            "key", f"{path} is no private key in PEM, or the password is wrong: `openssl genpkey -algorithm ed25519`"
        ) from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise InputError("key", f"{path} holds a key of another kind; bundles are signed with Ed25519")
    return loaded


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("key", f"cannot read {path}: {error.strerror or error}") from error


def _raw(key: "Ed25519PublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(f"signatures: {error}; install it with `{INSTALL}`") from error
