"""Personal data at rest: AES-256-GCM sealing and keyed hashes. Pure; randomness is an argument.

A sealed value is `1 | key id (4 bytes) | nonce (12 bytes) | ciphertext and tag`. The associated data names where
the value belongs (table, row, field), so that nothing can be swapped.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.errors import SealBroken

_VERSION = b"\x01"
_KEY_ID_BYTES, _NONCE_BYTES = 4, 12


class _Key:
    def __init__(self, secret: bytes) -> None:
        self.id = hashlib.sha256(b"key id" + secret).digest()[:_KEY_ID_BYTES]
        self.cipher = AESGCM(_derive(secret, b"sealing"))
        self.hash_secret = _derive(secret, b"keyed hash")


class Sealer:
    """Seals with the first key, opens with any. `keys`: 32 bytes each; `random_bytes(n)`: n random bytes."""

    def __init__(self, keys: Sequence[bytes], random_bytes: Callable[[int], bytes]) -> None:
        self._keys = [_Key(key) for key in keys]
        self._by_id = {key.id: key for key in self._keys}
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"Sealer({len(self._keys)} keys)"

    def seal(self, data: bytes, *place: str) -> bytes:
        """`data` sealed for `place`, e.g. `seal(b"…", "onboardings", "onb_1", "profile")`."""
        key = self._keys[0]
        nonce = self._random_bytes(_NONCE_BYTES)
        return _VERSION + key.id + nonce + key.cipher.encrypt(nonce, data, _associated(place))

    def open(self, sealed: bytes, *place: str) -> bytes:
        """The bytes sealed for the same `place`. Raises SealBroken: unknown key id, changed or moved bytes."""
        key_id, nonce, ciphertext = _parts(sealed)
        key = self._by_id.get(key_id)
        if key is None:
            raise SealBroken(
                f"{'/'.join(place)} was sealed with key {key_id.hex()}, which is not in "
                "ORCHESTRATOR_ENCRYPTION_KEYS: add it back behind the first key"
            )
        try:
            return key.cipher.decrypt(nonce, ciphertext, _associated(place))
        except InvalidTag as error:
            raise SealBroken(f"{'/'.join(place)} was changed or moved: it does not open") from error

    def key_id(self, sealed: bytes) -> str:
        """The id (hex) of the key that sealed these bytes. Raises SealBroken."""
        return _parts(sealed)[0].hex()

    def key_ids(self) -> list[str]:
        """The ids (hex) of the keys, the sealing one first."""
        return [key.id.hex() for key in self._keys]

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key sealed these bytes (or their beginning). Raises SealBroken."""
        return _parts(sealed)[0] == self._keys[0].id

    def reseal(self, sealed: bytes, *place: str) -> bytes:
        """The same content sealed with the first key. Raises SealBroken."""
        return self.seal(self.open(sealed, *place), *place)

    def hash(self, purpose: str, text: str) -> str:
        """The keyed hash to write for `text` (hex): with the first key."""
        return _keyed_hash(self._keys[0].hash_secret, purpose, text)

    def hashes(self, purpose: str, text: str) -> list[str]:
        """The keyed hashes to search for `text`: one for each key."""
        return [_keyed_hash(key.hash_secret, purpose, text) for key in self._keys]


def plain_hash(secret: str) -> str:
    """SHA-256 (hex) of a random token: enough to find it, useless to present it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"kyc-orchestrator " + purpose).derive(secret)


def _associated(place: Sequence[str]) -> bytes:
    return b"\x00".join(part.encode() for part in place)


def _parts(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    start = len(_VERSION)
    head = start + _KEY_ID_BYTES + _NONCE_BYTES
    if sealed[:start] != _VERSION or len(sealed) < head:
        raise SealBroken("these bytes were not sealed by this software")
    return sealed[start : start + _KEY_ID_BYTES], sealed[start + _KEY_ID_BYTES : head], sealed[head:]


def _keyed_hash(secret: bytes, purpose: str, text: str) -> str:
    return hmac.new(secret, f"{purpose}\x00{text}".encode(), hashlib.sha256).hexdigest()
