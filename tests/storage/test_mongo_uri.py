"""What a connection string says, and TLS files that cannot be used: each is named, with what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipam_lib.errors import ConfigError
from ipam_lib.storage.mongo import MongoStore
from ipam_lib.storage.mongo_uri import check_tls_files, hosts, options, uses_tls
from tests.storage.samples import NOW

PEM = serialization.Encoding.PEM


def key_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
CERTIFICATE = (
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(1)
    .not_valid_before(NOW)
    .not_valid_after(NOW.replace(year=NOW.year + 10))
    .sign(KEY, hashes.SHA256())
    .public_bytes(PEM)
)
REVOKED = (
    x509.CertificateRevocationListBuilder()
    .issuer_name(NAME)
    .last_update(NOW)
    .next_update(NOW.replace(year=NOW.year + 10))
    .sign(KEY, hashes.SHA256())
    .public_bytes(PEM)
)


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("mongodb://a.example:27017,[::1]:1/?tls=true", ["a.example", "[::1]"]),
        ("mongodb://user:p%40ss@b.example/?x=1", ["b.example"]),
        ("mongodb+srv://c.example", ["c.example"]),
        ("mongodb://%2Frun%2Fmongodb.sock/", ["/run/mongodb.sock"]),
    ],
)
def test_hosts(uri: str, found: list[str]) -> None:
    assert hosts(uri) == found


@pytest.mark.parametrize(
    ("uri", "tls"),
    [
        ("mongodb://host/", False),
        ("mongodb://host/?TLS=True", True),
        ("mongodb://host/?ssl=true", True),
        ("mongodb://host/?tlsCAFile=/a.pem", True),
        ("mongodb+srv://host/", True),
        ("mongodb+srv://host/?tls=false", False),
    ],
)
def test_whether_it_uses_tls(uri: str, tls: bool) -> None:
    assert uses_tls(uri) is tls


def test_options_are_found_whatever_their_case() -> None:
    assert options("mongodb://host/?tlsCAFile=%2Fa%20b.pem&w=1&W=2") == {"tlscafile": "/a b.pem", "w": "2"}


@pytest.mark.parametrize(
    ("given", "content", "words"),
    [
        ("tlsCAFile", None, "No such file or directory"),
        ("tlsCRLFile", None, "No such file or directory"),
        ("tlsCertificateKeyFile", None, "No such file or directory"),
        ("tlsCAFile", b"", "holds no certificate in PEM form"),
        ("tlsCAFile", b"\x30\x82 not text", "holds no certificate in PEM form"),
        ("tlsCAFile", key_pem(KEY), "holds no certificate in PEM form"),
        ("tlsCRLFile", b"nothing", "holds no revocation list in PEM form"),
        ("tlsCertificateKeyFile", b"nothing", "holds no certificate in PEM form"),
        ("tlsCertificateKeyFile", CERTIFICATE, "the certificate and its key must both be in this file"),
        ("tlsCertificateKeyFile", CERTIFICATE + key_pem(OTHER_KEY), "a key that does not belong to its certificate"),
        (
            "tlsCertificateKeyFile",
            CERTIFICATE[:60] + CERTIFICATE[90:] + key_pem(KEY),
            "holds no certificate and key that can be used",
        ),
        (
            "tlsCertificateKeyFile",
            CERTIFICATE + key_pem(KEY, b"password"),
            "an encrypted key, and mongodb.uri has no tlsCertificateKeyFilePassword",
        ),
        (
            "tlsCertificateKeyFilePassword=wrong&tlsCertificateKeyFile",
            CERTIFICATE + key_pem(KEY, b"password"),
            "a key that tlsCertificateKeyFilePassword does not decrypt",
        ),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, given: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / "client.pem"
    if content is not None:
        path.write_bytes(content)
    store = MongoStore(f"mongodb://user:SuperSecret@host/?{given}={path}", "ipam")
    with pytest.raises(ConfigError) as caught:
        await store.open()
    [problem] = caught.value.problems
    assert problem.startswith(f"mongodb.uri: {given.rpartition('&')[2]}: {path} ")
    assert words in problem
    assert "SuperSecret" not in problem
    assert "percent-encoded" not in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_this_user_may_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(CERTIFICATE)
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        check_tls_files(f"mongodb://host/?tlsCAFile={path}")


def test_every_file_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_tls_files(f"mongodb://host/?tlsCAFile={tmp_path}&tlsCertificateKeyFile={tmp_path}/none.pem")
    assert [problem.split()[1] for problem in caught.value.problems] == ["tlsCAFile:", "tlsCertificateKeyFile:"]
    assert "Is a directory" in caught.value.problems[0]


async def test_files_that_can_be_used(tmp_path: Path) -> None:
    ca, crl, client = tmp_path / "ca.pem", tmp_path / "crl.pem", tmp_path / "client.pem"
    ca.write_bytes(CERTIFICATE)
    crl.write_bytes(REVOKED)
    client.write_bytes(CERTIFICATE + key_pem(KEY, b"password"))
    files = f"tlsCAFile={ca}&tlsCRLFile={crl}&tlsCertificateKeyFile={client}&tlsCertificateKeyFilePassword=password"
    store = MongoStore(f"mongodb://host/?{files}", "ipam")
    await store.open()
    await store.close()
