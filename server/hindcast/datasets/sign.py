"""Signatures of training sets: Ed25519 over a manifest's id, by keys in files that openssl and ssh-keygen make.

What is signed is not the id alone but `hindcast training set 1`, a line end, and its 32 bytes: a key that signs other things too cannot be
made to sign a training set unnoticed.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindcast.errors import InvalidArgument, NotProven

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PASSWORD_VARIABLE = "HINDCAST_KEY_PASSWORD"  # noqa: S105 - its name, not one
ID_BYTES = 32
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_PURPOSE = b"hindcast training set 1\n"
_SSH_TYPE = b"ssh-ed25519"
_PEM_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_MAKE = "make one with `openssl genpkey -algorithm ed25519 -out key.pem`"
_FILE_BYTES_MAX = 2**16


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who signed.

    Attributes:
        raw: 32 bytes.
    """

    raw: bytes

    def __str__(self) -> str:
        """The line that `ssh-keygen -y` prints, without a comment."""
        return f"{_SSH_TYPE.decode()} {base64.b64encode(self._wire()).decode()}"

    @property
    def fingerprint(self) -> str:
        """What people compare: as `ssh-keygen -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self._wire()).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"

    def _wire(self) -> bytes:
        return b"".join(len(part).to_bytes(4, "big") + part for part in (_SSH_TYPE, self.raw))


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, and whose it says it is.

    Attributes:
        signature: 64 bytes.
    """

    public_key: PublicKey
    signature: bytes

    def to_json(self) -> dict[str, str]:
        """The key as OpenSSH writes it, the signature in hex."""
        return {"algorithm": "ed25519", "public_key": str(self.public_key), "signature": self.signature.hex()}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Signature":
        """The signature; that it is right is for `verify` to say.

        Raises:
            InvalidArgument: it has not this form.
        """
        if given.get("algorithm") != "ed25519":
            raise InvalidArgument.at("signature.algorithm", "must be ed25519")
        line, text = given.get("public_key"), given.get("signature")
        try:
            signature = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            signature = b""
        if len(signature) != _SIGNATURE_BYTES:
            raise InvalidArgument.at("signature.signature", f"must be {2 * _SIGNATURE_BYTES} hex digits")
        raw = _ssh_key(line.encode()) if isinstance(line, str) else None
        if raw is None:
            raise InvalidArgument.at("signature.public_key", "must be a line `ssh-ed25519 …`")
        return cls(PublicKey(raw), signature)


class SigningKey:
    """A private key; it is neither shown nor pickled."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    @property
    def public_key(self) -> PublicKey:
        """Its public half."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a signing key is not pickled")


def read_signing_key(path: Path) -> SigningKey:
    """The private key in a file: Ed25519 as PEM (PKCS8), with the password that the variable HINDCAST_KEY_PASSWORD has, if it needs one.

    Raises:
        InvalidArgument: there is no such key in it; the message says what there is.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - an extra

    content = _read(path)
    label = _pem_label(content)
    if label == "OPENSSH PRIVATE KEY":
        raise _wrong_key(path, f"is a private key in OpenSSH's own form, and must be PEM (PKCS8); {_MAKE}")
    if label == "PUBLIC KEY" or content.startswith(_SSH_TYPE):
        raise _wrong_key(path, "is a public key; signing needs the private one")
    if label not in {"PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}:
        raise _wrong_key(path, f"is no private key in PEM (PKCS8); {_MAKE}")
    is_encrypted = label == "ENCRYPTED PRIVATE KEY"
    password = os.environ.get(PASSWORD_VARIABLE)
    if is_encrypted and not password:
        raise _wrong_key(path, f"has a password; set the environment variable {PASSWORD_VARIABLE}")
    try:
        key = load_pem_private_key(content, password.encode() if is_encrypted and password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = f"cannot be read with the password in {PASSWORD_VARIABLE}" if is_encrypted else "is damaged"
        raise _wrong_key(path, f"{why}; or {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong_key(path, f"is a key of another kind than Ed25519; {_MAKE}")
    return SigningKey(key)


def read_public_key(path: Path) -> PublicKey:
    """The public key in a file: Ed25519 as PEM (`openssl pkey -pubout`), or the line `ssh-ed25519 …`.

    Raises:
        InvalidArgument: there is no such key in it.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - an extra

    content = _read(path)
    raw = _ssh_key(content)
    if raw is not None:
        return PublicKey(raw)
    label = _pem_label(content)
    if label is not None and "PRIVATE" in label:
        raise _wrong_key(
            path, "is a private key; verifying needs the public one, and the private one belongs nowhere else"
        )
    if label != "PUBLIC KEY":
        raise _wrong_key(path, "is no public key in PEM and no line `ssh-ed25519 …`")
    try:
        key = load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _wrong_key(path, "is damaged") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong_key(path, "is a key of another kind than Ed25519")
    return PublicKey(key.public_bytes_raw())


def sign(manifest_id: bytes, key: SigningKey) -> Signature:
    """Sign a manifest's id; the same id and key give the same signature.

    Args:
        manifest_id: 32 bytes.
    """
    return Signature(key.public_key, key.sign(_message(manifest_id)))


def verify(manifest_id: bytes, signature: Signature, key: PublicKey) -> None:
    """Check that the holder of a key signed the id.

    Args:
        key: whom you trust. The key beside a signature says only which one to look for.
    Raises:
        NotProven: another key signed, or another id was signed.
    """
    _need_cryptography()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - an extra

    if signature.public_key != key:
        raise NotProven(f"it was signed by the key {signature.public_key.fingerprint}, not by {key.fingerprint}")
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature.signature, _message(manifest_id))
    except InvalidSignature as error:
        raise NotProven(
            f"the signature is not one of {key.fingerprint} for this manifest; one of them was changed"
        ) from error


def _message(manifest_id: bytes) -> bytes:
    if len(manifest_id) != ID_BYTES:
        raise InvalidArgument.at("manifest_id", f"must be {ID_BYTES} bytes")
    return _PURPOSE + manifest_id


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise InvalidArgument.at("key", "needs the datasets extra: pip install 'hindcast[server,datasets]'") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX).strip()
    except OSError as error:
        raise _wrong_key(path, "cannot be read; check that it is there, and its rights") from error


def _wrong_key(path: Path, description: str) -> InvalidArgument:
    return InvalidArgument.at("key", f"{path} {description}")


def _pem_label(content: bytes) -> str | None:
    found = _PEM_BEGIN.search(content)
    return found.group(1).decode() if found else None


def _ssh_key(content: bytes) -> bytes | None:
    """The 32 bytes of a line `ssh-ed25519 BASE64 comment`; None if it is none."""
    name, _, rest = content.strip().partition(b" ")
    try:
        wire = base64.b64decode(rest.split(b" ")[0], validate=True)
    except (binascii.Error, ValueError):
        return None
    raw = wire[-_KEY_BYTES:]
    is_one = name == _SSH_TYPE and wire == PublicKey(raw)._wire() and b"\n" not in content.strip()  # noqa: SLF001
    return raw if is_one and len(raw) == _KEY_BYTES else None
