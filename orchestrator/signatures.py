"""Sign, verify and encrypt as BTSE Pay and OSL Pay do. Pure; the wire facts are in docs/providers.md.

This is the one file that the clients and the sandbox share, so frozen vectors made with the `openssl` command
pin it (tests/unit/test_signatures.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Literal, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

SignEncoding = Literal["hex", "base64"]
MultipartMessage = Literal["fields", "none", "json"]

_Key = TypeVar("_Key", RSAPrivateKey, RSAPublicKey)

SMALLEST_KEY_BITS, LARGEST_KEY_BITS = 1024, 4096


# BTSE Pay ---------------------------------------------------------------------------------------------------


def btse_message(path: str, nonce: str, body: bytes = b"") -> bytes:
    """The bytes BTSE Pay has signed for JSON and GET requests: path + nonce + body (docs/providers.md, B4).

    `path`: the URL's path without host and query. `nonce`: unix time in milliseconds, decimal.
    """
    return path.encode() + nonce.encode() + body


def btse_multipart_message(path: str, nonce: str, fields: Mapping[str, str], strategy: MultipartMessage) -> bytes:
    """The bytes BTSE Pay has signed for multipart/form-data, by strategy (docs/providers.md, B6).

    `fields`: the text fields in the order they are sent; files are left out.
    """
    if strategy == "none":
        text = ""
    elif strategy == "json":
        text = json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":"))
    else:
        text = "&".join(f"{name}={fields[name]}" for name in sorted(fields))
    return f"{path}{nonce}{text}".encode()


def btse_sign(secret: str, message: bytes, encoding: SignEncoding) -> str:
    """HMAC-SHA384 of `message`, as lower-case hex or base64 (docs/providers.md, B3 and B5)."""
    digest = hmac.new(secret.encode(), message, hashlib.sha384).digest()
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()


# OSL Pay ----------------------------------------------------------------------------------------------------


def osl_message(app_id: str, timestamp: str) -> bytes:
    """The string OSL Pay signs, in both directions; the body is not part of it (docs/providers.md, O3)."""
    return f"appId={app_id}&timestamp={timestamp}".encode()


def osl_sign(key: RSAPrivateKey, app_id: str, timestamp: str) -> str:
    """Base64 of RSA PKCS#1 v1.5 with SHA-256 over `osl_message` (docs/providers.md, O4)."""
    return base64.b64encode(key.sign(osl_message(app_id, timestamp), PKCS1v15(), hashes.SHA256())).decode()


def osl_verify(key: RSAPublicKey, app_id: str, timestamp: str, signature: str) -> bool:
    """Whether `signature` is canonical base64 of a valid signature of exactly the key's size.

    Never raises, whatever the header holds: base64 has many spellings of the same bytes, and only the one that
    encodes back to the same text is taken.
    """
    try:
        raw = base64.b64decode(signature.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return False
    if base64.b64encode(raw).decode() != signature or len(raw) != key.key_size // 8:
        return False
    try:
        key.verify(raw, osl_message(app_id, timestamp), PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def osl_encrypt(key: RSAPublicKey, text: str) -> str:
    """One field for OSL Pay: UTF-8 cut into chunks of key bytes minus 11, each encrypted with RSA PKCS#1 v1.5,
    the blocks concatenated, base64 of the whole (docs/providers.md, O6). An empty text is one block.
    """
    data = text.encode()
    size = key.key_size // 8 - 11
    chunks = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    return base64.b64encode(b"".join(key.encrypt(chunk, PKCS1v15()) for chunk in chunks)).decode()


def osl_decrypt(key: RSAPrivateKey, text: str) -> str:
    """The plaintext of a field encrypted by `osl_encrypt`. Raises ValueError when it is not one."""
    data = base64.b64decode(text.encode("ascii"), validate=True)
    size = key.key_size // 8
    if not data or len(data) % size:
        raise ValueError("the ciphertext is not a whole number of blocks")
    blocks = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(key.decrypt(block, PKCS1v15()) for block in blocks).decode()


# Keys -------------------------------------------------------------------------------------------------------


def load_private_key(text: str) -> RSAPrivateKey:
    """An RSA private key from PEM or bare base64 DER (PKCS#8). Raises ValueError saying what is wrong."""
    key = load_pem_private_key(text.encode(), None) if "-----" in text else load_der_private_key(_der(text), None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("it is not an RSA key")
    return _of_allowed_size(key)


def load_public_key(text: str) -> RSAPublicKey:
    """An RSA public key from PEM or bare base64 DER. Raises ValueError saying what is wrong."""
    key = load_pem_public_key(text.encode()) if "-----" in text else load_der_public_key(_der(text))
    if not isinstance(key, RSAPublicKey):
        raise ValueError("it is not an RSA key")
    return _of_allowed_size(key)


def _der(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("it is neither PEM nor base64") from error


def _of_allowed_size(key: _Key) -> _Key:
    if not SMALLEST_KEY_BITS <= key.key_size <= LARGEST_KEY_BITS:
        raise ValueError(f"its size must be {SMALLEST_KEY_BITS} to {LARGEST_KEY_BITS} bits, not {key.key_size}")
    if key.key_size % 8:
        raise ValueError(f"its size must be a multiple of 8 bits, not {key.key_size}")
    return key
