"""Sealing: what was sealed opens only where it belongs, and with a key that is configured."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from itertools import count

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import SealBroken
from orchestrator.seal import Sealer, plain_hash

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
PLACE = ("onboardings", "onb_1", "profile")

# What OLD and the nonce 64 65 … 6f make of "Zoë Lee" at PLACE. It was computed without this code, from RFC 5869
# and AES-GCM alone; what is in databases out there must always open.
FROZEN = "017d8a485a6465666768696a6b6c6d6e6f64844d2a66a73ccbe0620a09d07ff3aef1b7e3b5f849c713"
FROZEN_HASH = "34cb23477e0bc5254c8d88e9d3249dc67a712b52aa7eb0c00ea3c2cf9c09e356"


def frozen_nonce(size: int) -> bytes:
    return bytes(range(100, 100 + size))


def counting() -> Callable[[int], bytes]:
    """Bytes that differ at each call."""
    numbers = count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def sealer(*keys: bytes) -> Sealer:
    return Sealer(keys or (OLD,), counting())


def hkdf(secret: bytes, purpose: bytes) -> bytes:
    """RFC 5869 with SHA-256, one block, no salt."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, purpose + b"\x01", hashlib.sha256).digest()


def test_the_frozen_vector_is_sealed_and_opened_as_ever() -> None:
    frozen = Sealer([OLD], frozen_nonce)

    assert frozen.seal("Zoë Lee".encode(), *PLACE).hex() == FROZEN
    assert frozen.open(bytes.fromhex(FROZEN), *PLACE).decode() == "Zoë Lee"
    assert frozen.hash("email", "ana@example.com") == FROZEN_HASH


def test_the_frozen_vector_agrees_with_the_standards_it_is_made_of() -> None:
    key_id = hashlib.sha256(b"key id" + OLD).digest()[:4]
    cipher = AESGCM(hkdf(OLD, b"kyc-orchestrator sealing"))
    secret = hkdf(OLD, b"kyc-orchestrator keyed hash")
    sealed = cipher.encrypt(frozen_nonce(12), "Zoë Lee".encode(), b"onboardings\x00onb_1\x00profile")

    assert (b"\x01" + key_id + frozen_nonce(12) + sealed).hex() == FROZEN
    assert hmac.new(secret, b"email\x00ana@example.com", hashlib.sha256).hexdigest() == FROZEN_HASH


@given(data=st.binary(max_size=200), place=st.lists(st.text("abc_1é", min_size=1, max_size=8), max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_was_sealed_opens_in_its_place(data: bytes, place: list[str]) -> None:
    both = sealer()

    assert both.open(both.seal(data, *place), *place) == data


def test_the_sealed_bytes_do_not_show_the_content() -> None:
    sealed = sealer().seal(b"Ana Lee, K1234567", *PLACE)

    assert b"Ana" not in sealed
    assert len(sealed) == 1 + 4 + 12 + 17 + 16


def test_each_sealing_takes_a_nonce_of_its_own() -> None:
    both = sealer()

    assert both.seal(b"the same", *PLACE) != both.seal(b"the same", *PLACE)


def test_the_nonce_has_twelve_random_bytes() -> None:
    asked: list[int] = []

    def random_bytes(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    Sealer([OLD], random_bytes).seal(b"x", *PLACE)

    assert asked == [12]


@pytest.mark.parametrize(
    "place",
    [
        ("onboardings", "onb_1", "reason"),
        ("onboardings", "onb_2", "profile"),
        ("callbacks", "onb_1", "profile"),
        ("onboardings", "onb_1"),
        ("onboardings", "onb_1", "profile", ""),
        ("onboardings", "onb_1profile"),
        (),
    ],
)
def test_sealed_bytes_do_not_open_in_another_place(place: tuple[str, ...]) -> None:
    both = sealer()

    with pytest.raises(SealBroken, match="was changed or moved"):
        both.open(both.seal(b"profile", *PLACE), *place)


def test_two_users_profiles_cannot_be_swapped() -> None:
    both = sealer()
    ana, ben = (both.seal(name, "onboardings", row, "profile") for name, row in ((b"Ana", "onb_1"), (b"Ben", "onb_2")))

    for stolen, row in ((ben, "onb_1"), (ana, "onb_2")):
        with pytest.raises(SealBroken, match=f"onboardings/{row}/profile"):
            both.open(stolen, "onboardings", row, "profile")


@pytest.mark.parametrize("position", range(len(bytes.fromhex(FROZEN))))
def test_any_changed_byte_is_found(position: int) -> None:
    sealed = bytearray.fromhex(FROZEN)
    sealed[position] ^= 0x01

    with pytest.raises(SealBroken):
        sealer().open(bytes(sealed), *PLACE)


@pytest.mark.parametrize("length", [0, 1, 5, 16, 17, 18, 32, 39])
def test_cut_bytes_do_not_open(length: int) -> None:
    with pytest.raises(SealBroken):
        sealer().open(bytes.fromhex(FROZEN)[:length], *PLACE)


def test_bytes_with_more_behind_them_do_not_open() -> None:
    with pytest.raises(SealBroken):
        sealer().open(bytes.fromhex(FROZEN) + b"\x00", *PLACE)


def test_bytes_that_were_never_sealed_are_said_to_be_so() -> None:
    with pytest.raises(SealBroken, match="not sealed by this software"):
        sealer().open(b'{"email": "ana@example.com"}', *PLACE)


def test_an_unknown_key_is_named_by_its_id_with_what_to_do() -> None:
    sealed = sealer(OLD).seal(b"x", *PLACE)

    with pytest.raises(SealBroken) as caught:
        sealer(NEW).open(sealed, *PLACE)

    message = str(caught.value)
    assert message.startswith("onboardings/onb_1/profile was sealed with key 7d8a485a, which is not in ")
    assert "ORCHESTRATOR_ENCRYPTION_KEYS" in message
    assert "add it back behind the first key" in message
    assert OLD.hex() not in message


# Rotation ------------------------------------------------------------------------------------------------------


def test_an_old_key_behind_the_first_still_opens() -> None:
    sealed = sealer(OLD).seal(b"x", *PLACE)

    assert sealer(NEW, OLD).open(sealed, *PLACE) == b"x"


def test_the_first_key_seals() -> None:
    sealed = sealer(NEW, OLD).seal(b"x", *PLACE)

    assert sealer(NEW).open(sealed, *PLACE) == b"x"
    with pytest.raises(SealBroken):
        sealer(OLD).open(sealed, *PLACE)


def test_the_key_id_alone_does_not_decide_whether_a_key_fits() -> None:
    sealed = bytearray(sealer(NEW, OLD).seal(b"x", *PLACE))
    sealed[1:5] = bytes.fromhex(FROZEN)[1:5]

    with pytest.raises(SealBroken, match="was changed or moved"):
        sealer(NEW, OLD).open(bytes(sealed), *PLACE)


def test_resealing_takes_the_first_key_and_the_same_place() -> None:
    both = sealer(NEW, OLD)
    sealed = sealer(OLD).seal(b"x", *PLACE)

    again = both.reseal(sealed, *PLACE)

    assert (both.is_current(sealed), both.is_current(again)) == (False, True)
    assert sealer(NEW).open(again, *PLACE) == b"x"
    with pytest.raises(SealBroken):
        both.reseal(sealed, "onboardings", "onb_2", "profile")


# Hashes --------------------------------------------------------------------------------------------------------


def test_a_hash_is_written_with_the_first_key_and_searched_with_all() -> None:
    both = sealer(NEW, OLD)

    assert both.hash("email", "ana@example.com") == sealer(NEW).hash("email", "ana@example.com")
    assert both.hashes("email", "ana@example.com") == [
        sealer(NEW).hash("email", "ana@example.com"),
        sealer(OLD).hash("email", "ana@example.com"),
    ]


def test_a_hash_depends_on_purpose_text_and_key() -> None:
    one = sealer(OLD)
    found = {
        one.hash("email", "a"),
        one.hash("email", "b"),
        one.hash("address", "a"),
        one.hash("emaila", ""),
        sealer(NEW).hash("email", "a"),
        plain_hash("a"),
    }

    assert len(found) == 6
    assert all(len(text) == 64 for text in found)


def test_a_plain_hash_is_sha_256() -> None:
    assert plain_hash("token") == hashlib.sha256(b"token").hexdigest()


def test_the_repr_shows_no_key() -> None:
    assert repr(sealer(NEW, OLD)) == "Sealer(2 keys)"
