"""Signatures and encryption against values that the `openssl` command made, so that no two of our own programs
can agree on the same mistake.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.signatures import (
    MultipartMessage,
    SignEncoding,
    btse_message,
    btse_multipart_message,
    btse_sign,
    load_private_key,
    load_public_key,
    osl_decrypt,
    osl_encrypt,
    osl_message,
    osl_sign,
    osl_verify,
)

# openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key.pem
PRIVATE_PEM = """\
-----BEGIN PRIVATE KEY-----
MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAK6HFumLtoEzQIvj
sCfRYvhHFTy4hpP3l5XHXVTRCiRA5x38hHn9p9HgNDygVm+zkvw0GEWhLlagD/BI
Hmq5lVf+4kKIrVhynAiKolmjdHBo20NLC7sSxs2nz2j+0IdSS8a9tXVMgP+gjSqY
vuPGhBLs06gxMLA99pGLShYKY1fTAgMBAAECgYBAV3tB9Ij/DscQC4vo0g/bmlEh
BqJOsKvIwywMVdiYTvklm++3DaWuASsg4rebDKf2pLoCCY8MzouxuNTF4c9Feozx
tp9TYgJdeP879c1/J1NG02mt3ZNvLxbViAAOr1JmAimsLwP6NEDrG5B1nPVEiiru
BUGKxMCht0PxSQHfGQJBAN/bM0+D084aXsDqWg4+ZRRZVq6q0D36unrrPHj1XtLp
z1EaPtkEUnNFrzRdBtw5lRMlGeoXa+FkeU/tj2ho1xcCQQDHlpsOz6rg523Cl00D
2GwPIjZ0bYig7bfrrN500p8Zv7kuCDoe2QZ5WrAfCertwcrrAuJR6SxkKdmtNvK4
BrqlAkEA0VtEBZ2YvSzUaT/DsYaRKhLTis+dqhmPxd2y1L1GTaL1jTgqhvQP2FbX
oPVPsS75SMpuDgyRjF5XRnU6pb9HSQJADM5YAppGf4m53CtzEJUZUdtDHTNN+e1m
yKNd3qcI+FD54785Y3NPXAf6lvM+9KRjjbKwrMrGQ2MACYImDrK31QJBAIOpAllB
dUUg4usGwmmmDYkVwU4Z/eCgIN2ZnHsOiC1xaChhnoRJzog2MeA9WAAvL1Xd8FxK
UJkRkTw60qnhMtI=
-----END PRIVATE KEY-----
"""

# openssl pkey -in key.pem -pubout -out pub.pem
PUBLIC_PEM = """\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCuhxbpi7aBM0CL47An0WL4RxU8
uIaT95eVx11U0QokQOcd/IR5/afR4DQ8oFZvs5L8NBhFoS5WoA/wSB5quZVX/uJC
iK1YcpwIiqJZo3RwaNtDSwu7EsbNp89o/tCHUkvGvbV1TID/oI0qmL7jxoQS7NOo
MTCwPfaRi0oWCmNX0wIDAQAB
-----END PUBLIC KEY-----
"""

# openssl pkcs8 -topk8 -nocrypt -in key.pem -outform DER | openssl base64 -A
PRIVATE_DER = (
    "MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAK6HFumLtoEzQIvjsCfRYvhHFTy4hpP3l5XHXVTRCiRA5x38"
    "hHn9p9HgNDygVm+zkvw0GEWhLlagD/BIHmq5lVf+4kKIrVhynAiKolmjdHBo20NLC7sSxs2nz2j+0IdSS8a9tXVMgP+gjSqY"
    "vuPGhBLs06gxMLA99pGLShYKY1fTAgMBAAECgYBAV3tB9Ij/DscQC4vo0g/bmlEhBqJOsKvIwywMVdiYTvklm++3DaWuASsg"
    "4rebDKf2pLoCCY8MzouxuNTF4c9Feozxtp9TYgJdeP879c1/J1NG02mt3ZNvLxbViAAOr1JmAimsLwP6NEDrG5B1nPVEiiru"
    "BUGKxMCht0PxSQHfGQJBAN/bM0+D084aXsDqWg4+ZRRZVq6q0D36unrrPHj1XtLpz1EaPtkEUnNFrzRdBtw5lRMlGeoXa+Fk"
    "eU/tj2ho1xcCQQDHlpsOz6rg523Cl00D2GwPIjZ0bYig7bfrrN500p8Zv7kuCDoe2QZ5WrAfCertwcrrAuJR6SxkKdmtNvK4"
    "BrqlAkEA0VtEBZ2YvSzUaT/DsYaRKhLTis+dqhmPxd2y1L1GTaL1jTgqhvQP2FbXoPVPsS75SMpuDgyRjF5XRnU6pb9HSQJA"
    "DM5YAppGf4m53CtzEJUZUdtDHTNN+e1myKNd3qcI+FD54785Y3NPXAf6lvM+9KRjjbKwrMrGQ2MACYImDrK31QJBAIOpAllB"
    "dUUg4usGwmmmDYkVwU4Z/eCgIN2ZnHsOiC1xaChhnoRJzog2MeA9WAAvL1Xd8FxKUJkRkTw60qnhMtI="
)

SECRET = "vector-secret"
NONCE = "1764000000000"
UPLOAD_PATH = "/payment/pay-api/v1/user/kyc"

# printf '%s' '/payment/pay-api/v1/public/rate1764000000000{"merchantUserId":"u-1","userKey":"中文"}' \
#   | openssl dgst -sha384 -hmac vector-secret
JSON_SIGN = "fd6d0740b3d526aa3590a9f77bb2e06d34143f11b69f270562c54166df6998feea5d4f0c5607d10088bbbfee5fe9eb5d"
# the same with `-binary | openssl base64 -A`
JSON_SIGN_BASE64 = "/W0HQLPVJqo1kKn3e7LgbTQUPxG2nycFYsVBZt9pmP7qXU8MVgfRAIi7v+5f6etd"

# printf '%s' TEXT | openssl dgst -sha384 -hmac vector-secret
# where TEXT is /payment/pay-api/v1/user/kyc1764000000000 and
#   fields: email=ana@example.com&firstName=安娜&idType=7
#   json:   {"idType":"7","email":"ana@example.com","firstName":"安娜"}
UPLOAD_SIGNS: dict[MultipartMessage, str] = {
    "fields": "de63430fc24907f1c54da10cfc6427b100f6dea9f8079a5da90bd0e445a6eeb438208f266c025ca061d9a9db26034456",
    "none": "8a4e14a9be9b4a66e81d8999e7adce9b7ad5c3242015ff849915d6948b9c5318e9c6a9cb89f0b86b4500f2cd893700ec",
    "json": "4984120eab3bbc36b553553381d54391bd159e3984b650cb79bdf3dd552898279e952a7d9adf93a1f31131266defe396",
}

# printf '%s' 'appId=app-1&timestamp=1764000000000' | openssl dgst -sha256 -sign key.pem | openssl base64 -A
SIGNATURE = (
    "ax/Soo6/PhAAgK6AB+MW0mqQPTJQcQhSkZr9f+gWAfMfoP1rskqT1W92g6WjCCB/kOgA8HJtybELarGjui32DU2AC69abtoj"
    "RlFxwT26PV4Ox6UH9ylZTnyVeiHBhVcoYzrhI8p+9UCiFTpSoaV1p2/BVpDLeRzAFnSZyCdvx7g="
)

# printf '%s' '安娜 Lee' | openssl pkeyutl -encrypt -pubin -inkey pub.pem -pkeyopt rsa_padding_mode:pkcs1 \
#   | openssl base64 -A
CIPHERTEXT = (
    "hCAQVOrRKn03xmZYHBXg6TZ92w+7N1HlkZjx1SvyN1jfHeBjHzZBDoNdhvr0+q3xP2PDh5sRsAhtrAqWu3Ks+mKwP25WkZVp"
    "oAnSMzunrEQaIox0EGDXpUVXrWrBQc0M//BRI4LAbcTw/qiJRuGdxA7qAfNVFq7beYqY26rPU20="
)

# two blocks: 117 times `a`, then `bcd`, each through the command above without its last step; base64 of both together
LONG_CIPHERTEXT = (
    "KuLoAzcO7Ova2qZ1tfwFaFPFdXQQ799Qenr/F8/ZmuiVQBSUWxdN3BNM8FIVoppS9MdE0rfzGe5sJyB0fkBnsuScyL0jtN7s"
    "Dz6gUwQCj/31JmO9/oRDWKAOnlsEIv0xahQZSKVRb983FV92brujeRjkERLt8Va6eYSuA0XKcriXmXpEtTr20GTh+ou9tO1R"
    "4jtWQ7dK0ICULevlzHGBZu35e1IwimGLMqlohXIM7TEJj08Um5mjvFmwqZzakpo6hErmw6vtpqXuBJ/3M0ycVlvkBLNv79yy"
    "sBiW+koliaZG+hoOwlnVqEYQGmQaJPM6AMGT6pGNPRd2EUaftf6K9w=="
)


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return load_private_key(PRIVATE_PEM)


@pytest.fixture(scope="module")
def public_key() -> rsa.RSAPublicKey:
    return load_public_key(PUBLIC_PEM)


# BTSE Pay ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "expected"), [("hex", JSON_SIGN), ("base64", JSON_SIGN_BASE64)])
def test_a_json_request_is_signed_as_openssl_signs_it(encoding: SignEncoding, expected: str) -> None:
    body = '{"merchantUserId":"u-1","userKey":"中文"}'.encode()
    message = btse_message("/payment/pay-api/v1/public/rate", NONCE, body)

    assert btse_sign(SECRET, message, encoding) == expected


@pytest.mark.parametrize("strategy", ["fields", "none", "json"])
def test_an_upload_is_signed_as_openssl_signs_it(strategy: MultipartMessage) -> None:
    fields = {"idType": "7", "email": "ana@example.com", "firstName": "安娜"}
    message = btse_multipart_message(UPLOAD_PATH, NONCE, fields, strategy)

    assert btse_sign(SECRET, message, "hex") == UPLOAD_SIGNS[strategy]


# OSL Pay ----------------------------------------------------------------------------------------------------------


def test_a_request_to_osl_pay_is_signed_as_openssl_signs_it(private_key: rsa.RSAPrivateKey) -> None:
    assert osl_sign(private_key, "app-1", NONCE) == SIGNATURE


def test_a_signature_made_with_openssl_is_accepted(public_key: rsa.RSAPublicKey) -> None:
    assert osl_verify(public_key, "app-1", NONCE, SIGNATURE)


@pytest.mark.parametrize(("app_id", "timestamp"), [("app-2", NONCE), ("app-1", "1764000000001"), ("", "")])
def test_a_signature_over_anything_else_is_refused(public_key: rsa.RSAPublicKey, app_id: str, timestamp: str) -> None:
    assert not osl_verify(public_key, app_id, timestamp, SIGNATURE)


@pytest.mark.parametrize(
    "twin",
    [
        SIGNATURE[:-2] + "h=",  # the same bytes: the last character's spare bits differ
        SIGNATURE.rstrip("="),
        SIGNATURE + "=",
        SIGNATURE + "\n",
        " " + SIGNATURE,
        SIGNATURE[:40] + "\r\n" + SIGNATURE[40:],
        SIGNATURE.replace("+", "-").replace("/", "_"),
        base64.b64encode(b"\0" + base64.b64decode(SIGNATURE)).decode(),
        base64.b64encode(base64.b64decode(SIGNATURE)[1:]).decode(),
        SIGNATURE.swapcase(),
        "",
        "é" * 172,
    ],
)
def test_another_spelling_of_a_valid_signature_is_refused(public_key: rsa.RSAPublicKey, twin: str) -> None:
    assert twin != SIGNATURE
    assert not osl_verify(public_key, "app-1", NONCE, twin)


def test_another_key_of_the_same_size_does_not_verify() -> None:
    other = rsa.generate_private_key(65537, 1024).public_key()

    assert not osl_verify(other, "app-1", NONCE, SIGNATURE)


_HEADER = st.text(st.characters(max_codepoint=255), max_size=200)
_SIZED = st.binary(min_size=127, max_size=129).map(lambda raw: base64.b64encode(raw).decode())


@settings(deadline=None)
@given(_HEADER, _HEADER, st.one_of(st.text(max_size=200), _HEADER, _SIZED))
def test_a_garbled_header_is_refused_and_never_raises(app_id: str, timestamp: str, signature: str) -> None:
    assert osl_verify(load_public_key(PUBLIC_PEM), app_id, timestamp, signature) is False


def test_fields_encrypted_with_openssl_are_opened(private_key: rsa.RSAPrivateKey) -> None:
    assert osl_decrypt(private_key, CIPHERTEXT) == "安娜 Lee"
    assert osl_decrypt(private_key, LONG_CIPHERTEXT) == "a" * 117 + "bcd"


@settings(deadline=None)
@given(st.text(max_size=400))
def test_whatever_is_encrypted_is_opened_again(text: str) -> None:
    assert osl_decrypt(load_private_key(PRIVATE_PEM), osl_encrypt(load_public_key(PUBLIC_PEM), text)) == text


@pytest.mark.parametrize(("size", "blocks"), [(0, 1), (1, 1), (117, 1), (118, 2), (234, 2), (235, 3)])
def test_a_field_is_cut_into_chunks_of_the_key_less_eleven_bytes(
    public_key: rsa.RSAPublicKey, size: int, blocks: int
) -> None:
    assert len(base64.b64decode(osl_encrypt(public_key, "a" * size))) == blocks * 128


@pytest.mark.parametrize("text", ["", "x", "é", "====", CIPHERTEXT[:-4], base64.b64encode(bytes(127)).decode()])
def test_what_is_no_ciphertext_is_a_value_error(private_key: rsa.RSAPrivateKey, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        osl_decrypt(private_key, text)


# Keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_read_from_pem_and_from_bare_base64_alike(private_key: rsa.RSAPrivateKey) -> None:
    broken_lines = "\n".join(PRIVATE_DER[start : start + 64] for start in range(0, len(PRIVATE_DER), 64))
    public = "".join(PUBLIC_PEM.splitlines()[1:-1])

    for text in (PRIVATE_DER, broken_lines, f"  {PRIVATE_DER}\n"):
        assert load_private_key(text).private_numbers() == private_key.private_numbers()
    assert load_public_key(public).public_numbers() == private_key.public_key().public_numbers()


def _elliptic_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "make",
    [
        lambda: "",
        lambda: "nonsense",
        lambda: "AAAA",
        lambda: PUBLIC_PEM,
        _elliptic_pem,
        lambda: "-----BEGIN",
        lambda: "é",
    ],
)
def test_what_is_no_rsa_private_key_is_a_value_error(make: Callable[[], str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_private_key(make())


@pytest.mark.parametrize("text", ["", "nonsense", "AAAA", PRIVATE_PEM, "-----BEGIN PUBLIC KEY-----", "é"])
def test_what_is_no_rsa_public_key_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_public_key(text)


def test_a_public_key_of_another_kind_is_a_value_error() -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ValueError, match="not an RSA key"):
        load_public_key(elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


# openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:512 (libraries refuse to make one so small)
SMALL_PUBLIC_PEM = """\
-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANgazkpPk1vROJEud8jXddZKatG2jL6W
E7izaSNrcuDIS0CYe+42eJJCxKsodCUDDf1QEZUX5O9uc0JSbsD+YUcCAwEAAQ==
-----END PUBLIC KEY-----
"""


def test_a_key_that_is_too_small_is_refused_with_the_allowed_sizes() -> None:
    with pytest.raises(ValueError, match="1024 to 4096 bits, not 512"):
        load_public_key(SMALL_PUBLIC_PEM)


# Once more with the program itself --------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
def test_openssl_verifies_what_we_sign_and_opens_what_we_encrypt(
    private_key: rsa.RSAPrivateKey, public_key: rsa.RSAPublicKey, tmp_path: Path
) -> None:
    private, public, signature = tmp_path / "key.pem", tmp_path / "pub.pem", tmp_path / "signature"
    private.write_text(PRIVATE_PEM)
    public.write_text(PUBLIC_PEM)
    signature.write_bytes(base64.b64decode(osl_sign(private_key, "app-1", NONCE)))

    verified = _openssl(
        "dgst", "-sha256", "-verify", public, "-signature", signature, given=osl_message("app-1", NONCE)
    )
    opened = _openssl(
        "pkeyutl",
        "-decrypt",
        "-inkey",
        private,
        "-pkeyopt",
        "rsa_padding_mode:pkcs1",
        given=base64.b64decode(osl_encrypt(public_key, "安娜 Lee")),
    )

    assert b"Verified OK" in verified
    assert opened.decode() == "安娜 Lee"


def _openssl(*arguments: str | Path, given: bytes) -> bytes:
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True).stdout
