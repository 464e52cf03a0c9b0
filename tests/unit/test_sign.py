"""Signatures of training sets: who signed is proven, and keys of other kinds are refused with what to do."""

import pickle
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from hindcast.datasets.sign import (
    PASSWORD_VARIABLE,
    PublicKey,
    Signature,
    read_public_key,
    read_signing_key,
    sign,
    verify,
)
from hindcast.errors import InvalidArgument, NotProven

MANIFEST_ID = bytes(range(32))
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


def file_of(path, content):
    """A file with that content."""
    path.write_bytes(content)
    return path


@pytest.fixture
def key_file(tmp_path):
    """A private key as openssl writes it."""
    return file_of(tmp_path / "key.pem", KEY.private_bytes(PEM, PKCS8, PLAIN))


@pytest.fixture
def public_file(tmp_path):
    """Its public half in PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return file_of(tmp_path / "public.pem", KEY.public_key().public_bytes(PEM, form))


@pytest.fixture
def ssh_file(tmp_path):
    """Its public half as ssh-keygen writes it, with a comment."""
    form = serialization.PublicFormat.OpenSSH
    line = KEY.public_key().public_bytes(serialization.Encoding.OpenSSH, form)
    return file_of(tmp_path / "key.pub", line + b" ada@example\n")


def test_a_signature_is_proven_by_either_form_of_the_key(key_file, public_file, ssh_file):
    """What a key signed is proven by its public half, in PEM and as an OpenSSH line, after a way through JSON."""
    signature = Signature.from_json(sign(MANIFEST_ID, read_signing_key(key_file)).to_json())

    assert read_public_key(public_file) == read_public_key(ssh_file)
    verify(MANIFEST_ID, signature, read_public_key(public_file))


def test_openssl_agrees(key_file, public_file, tmp_path):
    """Openssl verifies the signature over the purpose's line and the id."""
    message = file_of(tmp_path / "message", b"hindcast training set 1\n" + MANIFEST_ID)
    signed = file_of(tmp_path / "signature", sign(MANIFEST_ID, read_signing_key(key_file)).signature)
    arguments = ["-pubin", "-inkey", public_file, "-rawin", "-in", message, "-sigfile", signed]

    subprocess.run(["openssl", "pkeyutl", "-verify", *arguments], check=True, capture_output=True)


def test_every_changed_bit_is_noticed(key_file):
    """A signature with one bit changed, or of an id with one bit changed, is refused."""
    signature = sign(MANIFEST_ID, read_signing_key(key_file))
    for bit in range(8 * 64):
        changed = bytearray(signature.signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NotProven, match="one of them was changed"):
            verify(MANIFEST_ID, Signature(signature.public_key, bytes(changed)), signature.public_key)
    for bit in range(8 * 32):
        other = bytearray(MANIFEST_ID)
        other[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NotProven, match="one of them was changed"):
            verify(bytes(other), signature, signature.public_key)


def test_another_key_is_named(key_file):
    """A signature of a key other than the trusted one is refused, with the fingerprints of both."""
    signature = sign(MANIFEST_ID, read_signing_key(key_file))
    trusted = PublicKey(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(NotProven) as refused:
        verify(MANIFEST_ID, signature, trusted)

    assert f"it was signed by the key {signature.public_key.fingerprint}, not by {trusted.fingerprint}" == str(
        refused.value
    )


def test_a_foreign_key_put_beside_a_signature_is_refused(key_file):
    """Claiming the trusted key beside a signature of another one does not prove it."""
    own = sign(MANIFEST_ID, read_signing_key(key_file))
    trusted = PublicKey(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(NotProven):
        verify(MANIFEST_ID, Signature(trusted, own.signature), trusted)


def test_the_fingerprint_is_that_of_openssh(ssh_file):
    """A fingerprint is SHA256 and the digest of the key's wire form, in base64 without padding, as `ssh-keygen -l` prints it for this key."""
    key = read_public_key(ssh_file)

    assert "SHA256:z/fSv0Z0RZS+Lccbc6ZoOWwt/fbj1VFJGSBKQbo4icE" == key.fingerprint
    assert str(key) + " ada@example\n" == ssh_file.read_text()


def test_a_key_with_a_password_needs_it(tmp_path, monkeypatch):
    """A key with a password is read with the variable's, and without it or with another one the error says which variable."""
    encryption = serialization.BestAvailableEncryption(b"secret")
    path = file_of(tmp_path / "key.pem", KEY.private_bytes(PEM, PKCS8, encryption))
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(InvalidArgument, match="has a password; set the environment variable HINDCAST_KEY_PASSWORD"):
        read_signing_key(path)
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(InvalidArgument, match="cannot be read with the password in HINDCAST_KEY_PASSWORD"):
        read_signing_key(path)
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")

    assert KEY.public_key().public_bytes_raw() == read_signing_key(path).public_key.raw


def test_a_password_that_is_not_needed_is_no_matter(key_file, monkeypatch):
    """A key without a password is read whether or not the variable is set."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")

    assert KEY.public_key().public_bytes_raw() == read_signing_key(key_file).public_key.raw


def other_private(form):
    """A private key that is not the kind that is wanted."""
    curve = ec.generate_private_key(ec.SECP256R1())
    return {
        "openssh": KEY.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, PLAIN),
        "curve": curve.private_bytes(PEM, PKCS8, PLAIN),
        "traditional": curve.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN),
        "public": KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "ssh": KEY.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
        "damaged": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "empty": b"",
    }[form]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("openssh", "in OpenSSH's own form, and must be PEM .PKCS8.; make one with `openssl genpkey"),
        ("curve", "is a key of another kind than Ed25519; make one with"),
        ("traditional", "is no private key in PEM .PKCS8.; make one with"),
        ("public", "is a public key; signing needs the private one"),
        ("ssh", "is a public key; signing needs the private one"),
        ("damaged", "is damaged; or make one with"),
        ("empty", "is no private key in PEM"),
    ],
)
def test_other_private_keys_are_refused(tmp_path, form, said):
    """A file without an Ed25519 private key in PKCS8 is refused, and the error says what it has and what to do."""
    with pytest.raises(InvalidArgument, match=said):
        read_signing_key(file_of(tmp_path / "key", other_private(form)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (KEY.private_bytes(PEM, PKCS8, PLAIN), "is a private key; verifying needs the public one"),
        (b"ssh-rsa AAAA x", "is no public key in PEM and no line"),
        (b"ssh-ed25519 AAAA", "is no public key in PEM and no line"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "is damaged"),
        (
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            "is a key of another kind than Ed25519",
        ),
    ],
    ids=["private", "rsa", "short", "damaged", "curve"],
)
def test_other_public_keys_are_refused(tmp_path, content, said):
    """A file without an Ed25519 public key is refused, and the error says what it has."""
    with pytest.raises(InvalidArgument, match=said):
        read_public_key(file_of(tmp_path / "key", content))


@pytest.mark.parametrize("read", [read_signing_key, read_public_key])
def test_a_missing_file_is_named(tmp_path, read):
    """A key file that is not there is named."""
    with pytest.raises(InvalidArgument, match=r"none\.pem cannot be read"):
        read(tmp_path / "none.pem")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"algorithm": "rsa"}, "signature.algorithm"),
        ({"signature": "00"}, "signature.signature"),
        ({"signature": "zz" * 64}, "signature.signature"),
        ({"signature": None}, "signature.signature"),
        ({"public_key": "ssh-ed25519 AAAA"}, "signature.public_key"),
        ({"public_key": None}, "signature.public_key"),
    ],
)
def test_a_malformed_signature_is_refused(key_file, change, where):
    """JSON that is no signature is refused by the place that is wrong."""
    with pytest.raises(InvalidArgument, match=f"^{where}: "):
        Signature.from_json(sign(MANIFEST_ID, read_signing_key(key_file)).to_json() | change)


def test_an_id_of_another_length_is_refused(key_file):
    """What is signed is an id of 32 bytes and nothing else."""
    with pytest.raises(InvalidArgument, match="manifest_id: must be 32 bytes"):
        sign(b"short", read_signing_key(key_file))


def test_a_signing_key_is_not_pickled(key_file):
    """A private key does not get into a pickle."""
    with pytest.raises(TypeError, match="is not pickled"):
        pickle.dumps(read_signing_key(key_file))
