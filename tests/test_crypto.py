from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ipam_lib.crypto import SIV_MARK, Cipher, KeySet, Scheme, Secret, SecretUnreadable, same_text
from ipam_lib.errors import ConfigError

LEGACY = Path(__file__).parent / "data" / "legacy"
OLD = KeySet.from_json((LEGACY / "secrets.json").read_text())
NEW = KeySet(bytes(range(32)), bytes(range(16)))
OTHER = KeySet(b"0123456789abcdefghijklmn", b"another-iv-16-by")
DOCUMENTS = json.loads((LEGACY / "documents.json").read_text())

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=64)
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=64)
SCHEMES: list[Scheme] = ["aes-siv", "legacy-ctr"]


def hexes(text: str) -> bytes:
    return bytes.fromhex(text)


# --- the primitive, against the RFC -----------------------------------------------------------------------------------


def test_rfc_5297_a_1_deterministic() -> None:
    key = hexes("fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff")
    header = hexes("10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627")
    plain = hexes("11223344 55667788 99aabbcc ddee")
    sealed = hexes("85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c")
    assert AESSIV(key).encrypt(plain, [header]) == sealed
    assert AESSIV(key).decrypt(sealed, [header]) == plain
    assert own_siv(key, plain, [header]) == sealed


def test_rfc_5297_a_2_nonce_based() -> None:
    key = hexes("7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f")
    headers = [
        hexes("00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100"),
        hexes("10203040 50607080 90a0"),
        hexes("09f91102 9d74e35b d84156c5 635688c0"),
    ]
    plain = b"this is some plaintext to encrypt using SIV-AES"
    sealed = hexes(
        "7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 dba77ceb 094fa663 b7a3f748 ba8af829"
        "ea64ad54 4a272e9c 485b62a3 fd5c0d"
    )
    assert AESSIV(key).encrypt(plain, headers) == sealed
    assert own_siv(key, plain, headers) == sealed


def own_siv(key: bytes, plain: bytes, headers: list[bytes]) -> bytes:
    """RFC 5297, sections 2.4 to 2.6, from CMAC and CTR alone: a second opinion on the library's AESSIV."""
    mac_key, ctr_key = key[: len(key) // 2], key[len(key) // 2 :]

    def mac(content: bytes) -> bytes:
        cmac = CMAC(AES(mac_key))
        cmac.update(content)
        return cmac.finalize()

    def double(block: bytes) -> bytes:
        number = int.from_bytes(block) << 1
        return (number ^ 0x87 if number >> 128 else number).to_bytes(17)[1:]

    def xor(left: bytes, right: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(left, right, strict=True))

    block = mac(bytes(16))
    for header in headers:
        block = xor(double(block), mac(header))
    if len(plain) >= 16:
        last = plain[:-16] + xor(plain[-16:], block)
    else:
        last = xor(double(block), plain + b"\x80" + bytes(15 - len(plain)))
    tag = mac(last)
    counter = (int.from_bytes(tag) & ~(1 << 63) & ~(1 << 31)).to_bytes(16)
    stream = BlockCipher(AES(ctr_key), CTR(counter)).encryptor()
    return tag + stream.update(plain)


def hkdf(material: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256 and no salt, from HMAC alone."""
    key = hmac.digest(bytes(32), material, hashlib.sha256)
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([number]), hashlib.sha256)
        out, number = out + block, number + 1
    return out[:length]


@given(SECRETS, st.sampled_from([OLD, NEW, OTHER]))
def test_the_new_scheme_is_what_the_docstring_says(secret: str, keys: KeySet) -> None:
    key = hkdf(keys.enc_key, b"ipam-api stored secrets siv1", 64)
    assert Cipher(keys).seal(secret) == "siv1:" + b64encode(own_siv(key, secret.encode(), [])).decode()


# --- what is stored, held still for ever ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "secret", "siv", "ctr"),
    [
        (OLD, "SuperSecret", "siv1:SkZ9Vb1Lr1Fvx/NFl0Q3TsX9lSwD0Zyz/hiE", "fZWJP/YCFRnH05U="),
        (
            NEW,
            "correct horse battery staple",
            "siv1:rzN5ithDONRCB1oMhcq+HdntQkDOMPnRcjnNGegsZf9rUdCVXktY4vxSyxY=",
            "OQF2JW2YBbaYQSdOZ+PE8xSHdae6pSspNGaXNA==",
        ),
        (
            OTHER,
            "blåbærsyltetøy 🔑",
            "siv1:ktojSSPmTc9WOJSNW+1J35IdrvWJE9pLTGiNK0qDB7yIXECds9w=",
            "eec3RroS8b0PlQdfL3z739eO0WtXOg==",
        ),
    ],
)
def test_stored_form_never_changes(keys: KeySet, secret: str, siv: str, ctr: str) -> None:
    assert Cipher(keys).seal(secret) == siv
    assert Cipher(keys, scheme="legacy-ctr").seal(secret) == ctr
    assert Cipher(keys).unseal(siv) == secret
    assert Cipher(keys).unseal(ctr) == secret


def test_there_are_documents_of_the_earlier_service() -> None:
    assert len(DOCUMENTS) >= 12


@pytest.mark.parametrize("entry", DOCUMENTS, ids=lambda entry: entry["document"]["address"])
def test_documents_of_the_earlier_service(entry: dict[str, dict[str, str] | str]) -> None:
    document = entry["document"]
    assert isinstance(document, dict)
    stored, plain = document["secret"], str(entry["plain_secret"])
    cipher = Cipher(OLD)
    assert cipher.unseal(stored) == plain
    assert stored in cipher.candidates(plain)
    assert not cipher.is_current(stored)
    assert Cipher(OLD, scheme="legacy-ctr").seal(plain) == stored
    assert Cipher(OLD, scheme="legacy-ctr").is_current(stored)
    # After a rotation it is found and read by the previous key.
    rotated = Cipher(NEW, previous=OLD)
    assert rotated.unseal(stored) == plain
    assert stored in rotated.candidates(plain)
    assert not rotated.is_current(stored)


# --- sealing and unsealing --------------------------------------------------------------------------------------------


@given(SECRETS, st.sampled_from([OLD, NEW, OTHER]), st.sampled_from(SCHEMES))
@example("пароль-密码-🔑", OLD, "aes-siv")
@example("🔑" * 64, NEW, "legacy-ctr")
def test_round_trip(secret: str, keys: KeySet, scheme: Scheme) -> None:
    cipher = Cipher(keys, scheme=scheme)
    stored = cipher.seal(secret)
    assert cipher.unseal(stored) == secret
    assert cipher.is_current(stored)
    assert cipher.seal(secret) == stored
    assert Cipher(keys, scheme=scheme).seal(secret) == stored
    assert secret not in stored
    assert stored.isascii()


@given(SECRETS, st.sampled_from(SCHEMES))
def test_candidates_hold_every_stored_form(secret: str, scheme: Scheme) -> None:
    cipher = Cipher(NEW, scheme=scheme, previous=OLD)
    candidates = cipher.candidates(secret)
    forms = [Cipher(keys, scheme=written).seal(secret) for written in SCHEMES for keys in (NEW, OLD)]
    assert candidates[0] == cipher.seal(secret)
    assert sorted(candidates) == sorted(forms)
    if scheme == "aes-siv":
        assert list(candidates) == forms


@given(SECRETS)
def test_candidates_hold_nothing_twice(secret: str) -> None:
    assert len(Cipher(OLD).candidates(secret)) == 2
    assert Cipher(OLD, previous=OLD).candidates(secret) == Cipher(OLD).candidates(secret)
    # Only the iv was replaced: the new scheme does not use it.
    assert len(Cipher(KeySet(OLD.enc_key, NEW.enc_iv), previous=OLD).candidates(secret)) == 3


@given(SECRETS, SECRETS)
def test_different_secrets_share_no_stored_form(one: str, two: str) -> None:
    assume(one != two)
    cipher = Cipher(NEW, previous=OLD)
    siv = {stored for stored in cipher.candidates(one) if stored.startswith(SIV_MARK)}
    assert siv.isdisjoint(cipher.candidates(two))


@given(SECRETS)
def test_lifting_and_rotating(secret: str) -> None:
    before, during, after = Cipher(OLD), Cipher(NEW, previous=OLD), Cipher(NEW)
    stored = before.seal(secret)
    assert during.unseal(stored) == secret
    assert not during.is_current(stored)
    lifted = during.seal(during.unseal(stored))
    assert during.is_current(lifted)
    assert after.is_current(lifted)
    assert after.unseal(lifted) == secret
    with pytest.raises(SecretUnreadable):
        after.unseal(stored)


@given(PRINTABLE)
def test_old_scheme_under_the_right_one_of_two_keys(secret: str) -> None:
    # 16 printable characters or more: that the wrong key gives them too has a chance of one in ten million.
    by_current = Cipher(NEW, scheme="legacy-ctr").seal(secret)
    by_previous = Cipher(OLD, scheme="legacy-ctr").seal(secret)
    for scheme in SCHEMES:
        cipher = Cipher(NEW, scheme=scheme, previous=OLD)
        assert cipher.unseal(by_current) == secret
        assert cipher.unseal(by_previous) == secret
        assert cipher.is_current(by_current) is (scheme == "legacy-ctr")
        assert not cipher.is_current(by_previous)


def test_old_scheme_with_two_likely_keys() -> None:
    # The key streams of these two differ by little, so that a printable text comes out under either.
    twin = KeySet(b"twin-key-0000129", OLD.enc_iv)
    secret = "SuperSec"
    stored = Cipher(OLD, scheme="legacy-ctr").seal(secret)
    under_twin = Cipher(twin).unseal(stored)
    assert under_twin != secret
    assert under_twin.isprintable()
    assert len(under_twin) == 8
    # With aes-siv nothing writes the old scheme under the current key, so it is the previous one's.
    assert Cipher(twin, previous=OLD).unseal(stored) == secret
    assert Cipher(OLD, scheme="legacy-ctr", previous=twin).unseal(stored) == secret
    assert Cipher(OLD, scheme="legacy-ctr", previous=twin).is_current(stored)
    # A look-up by the secret does not depend on it.
    assert stored in Cipher(twin, previous=OLD).candidates(secret)


def test_a_strange_secret_is_read_where_nothing_likelier_comes_out() -> None:
    # A control character, which the earlier service let in.
    stored = Cipher(OLD, scheme="legacy-ctr").seal("a\tb")
    assert Cipher(OLD).unseal(stored) == "a\tb"
    assert Cipher(NEW, previous=OLD).unseal(stored) == "a\tb"


# --- what cannot be read ----------------------------------------------------------------------------------------------


@given(SECRETS, st.data())
def test_any_change_is_noticed(secret: str, data: st.DataObject) -> None:
    cipher = Cipher(NEW, previous=OLD)
    stored = cipher.seal(secret)
    place = data.draw(st.integers(len(SIV_MARK), len(stored) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda c: c != stored[place]))
    for changed in (stored[:place] + other + stored[place + 1 :], stored[:place] + stored[place + 1 :], stored + other):
        with pytest.raises(SecretUnreadable) as caught:
            cipher.unseal(changed)
        assert secret not in caught.value.message
        assert changed not in caught.value.message
        assert not cipher.is_current(changed)


@pytest.mark.parametrize("secret", ["8 bytes!", "9 bytes!!", "10 bytes!!"])
def test_only_the_text_that_was_written_is_read(secret: str) -> None:
    # base64 with other values in the bits that its last character does not use, or without padding.
    cipher = Cipher(NEW)
    stored = cipher.seal(secret)
    content = b64decode(stored.removeprefix(SIV_MARK))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body, padding = stored.rstrip("="), stored[len(stored.rstrip("=")) :]
    others = [body[:-1] + last + padding for last in alphabet if last != body[-1]]
    same = [other for other in others if b64decode(other.removeprefix(SIV_MARK)) == content]
    assert len(same) == {0: 0, 1: 3, 2: 15}[len(padding)]
    for other in [*same, stored + "=", stored + "\n", " " + stored]:
        with pytest.raises(SecretUnreadable):
            cipher.unseal(other)


@given(SECRETS)
def test_another_key(secret: str) -> None:
    with pytest.raises(SecretUnreadable, match="another key"):
        Cipher(NEW).unseal(Cipher(OLD).seal(secret))


@given(st.text())
@example("")
@example("siv1:")
@example("siv1:====")
@example("siv1:\ud800")
@example("\ud800")
@example("siv2:AAAA")
@example("gIGCgw==")
@example(" fYWaKOElXRTA24NzFyz7")
def test_arbitrary_stored_text(stored: str) -> None:
    cipher = Cipher(NEW, previous=OLD)
    try:
        secret = cipher.unseal(stored)
    except SecretUnreadable:
        assert not cipher.is_current(stored)
    else:
        # Only well-formed base64 of the old scheme can be taken for a secret, since nothing authenticates it.
        assert b64decode(stored, validate=True)
        assert stored in cipher.candidates(secret) or b64encode(b64decode(stored)).decode() in cipher.candidates(secret)


def test_scheme_of_a_later_version() -> None:
    with pytest.raises(SecretUnreadable, match="does not know"):
        Cipher(OLD).unseal("siv2:" + "A" * 40)


def test_the_old_scheme_cannot_look_like_the_new_one() -> None:
    for length in range(1, 257):
        assert ":" not in Cipher(OLD, scheme="legacy-ctr").seal("x" * length)


def test_sealed_but_no_text() -> None:
    key = hkdf(NEW.enc_key, b"ipam-api stored secrets siv1", 64)
    stored = SIV_MARK + b64encode(AESSIV(key).encrypt(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", None)).decode()
    with pytest.raises(SecretUnreadable):
        Cipher(NEW).unseal(stored)


def test_library_still_raises_what_is_caught() -> None:
    with pytest.raises(InvalidTag):
        AESSIV(bytes(64)).decrypt(bytes(20), None)


# --- key files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [16, 24, 32])
def test_key_lengths(length: int) -> None:
    keys = KeySet.from_json(json.dumps({"enc_key": "k" * length, "enc_iv": "i" * 16, "note": "ignored"}))
    assert keys == KeySet(b"k" * length, b"i" * 16)
    assert Cipher(keys).unseal(Cipher(keys, scheme="legacy-ctr").seal("SuperSecret")) == "SuperSecret"


def test_lengths_count_bytes_not_characters() -> None:
    assert KeySet.from_json(json.dumps({"enc_key": "é" * 8, "enc_iv": "é" * 8})).enc_key == "é".encode() * 8
    with pytest.raises(ConfigError, match="it is 32"):
        KeySet.from_json(json.dumps({"enc_key": "k" * 16, "enc_iv": "é" * 16}))


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ('{"enc_key": "hush-hush-hush", "enc_iv": "hush-hush"}', ["enc_key must be 16, 24", "enc_iv must be 16 bytes"]),
        ('{"enc_key": "hush-hush-hush-h"}', ["enc_iv is missing"]),
        ("{}", ["enc_key is missing", "enc_iv is missing"]),
        ('{"enc_key": 1234567890123456, "enc_iv": ["hush"]}', ["enc_key must be a string", "enc_iv must be a string"]),
        ('{"enc_key": null, "enc_iv": true}', ["enc_key is missing", "enc_iv must be a string"]),
        ('["hush"]', ["one JSON object"]),
        ('{"enc_key": "hush-hush-hush-h",\n "enc_iv": "hush"', ["not valid JSON: line 2, column 18"]),
        ("", ["not valid JSON: line 1, column 1"]),
        ("[" * 100_000, ["too deeply"]),
        ("9" * 5_000, ["not valid JSON"]),
        ('{"enc_key": "\\ud800", "enc_iv": "hush"}', ["enc_key must be", "enc_iv must be"]),
    ],
)
def test_bad_key_files(content: str, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        KeySet.from_json(content)
    assert len(caught.value.problems) == len(problems)
    for problem, expected in zip(caught.value.problems, problems, strict=True):
        assert expected in problem
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text())
def test_arbitrary_key_files(content: str) -> None:
    with pytest.raises(ConfigError):
        KeySet.from_json(content)


# --- what must not show -----------------------------------------------------------------------------------------------


def test_nothing_shows_in_a_repr() -> None:
    for shown in (repr(OLD), str(OLD), f"{OLD}", repr(Cipher(OLD)), repr(vars(Cipher(OLD)))):
        assert "1234567890abcdef" not in shown
        assert "abcdefghijklmnop" not in shown
    secret = Secret("hush")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret, repr([secret])):  # noqa: UP031
        assert "hush" not in shown
        assert "****" in shown


def test_secret_is_a_value() -> None:
    assert Secret("hush").reveal() == "hush"
    assert Secret("hush") == Secret("hush") != Secret("hushed")
    assert Secret("hush") != "hush"
    assert len({Secret("hush"), Secret("hush"), Secret("else")}) == 2


@given(st.text(), st.text())
@example("\udcff", "\udcff")
@example("\ud800", "")
@example("a", "ab")
def test_same_text(one: str, two: str) -> None:
    assert same_text(one, two) is (one == two)
    assert same_text(one, one)
