"""What somebody sends who knows every callback URL and many headers that OSL Pay once signed, made up from a seed."""

from __future__ import annotations

import base64
import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.signatures import osl_sign
from tests.sandbox_process import APP_ID, rsa_key
from tests.service import status_change

WIDE = "/callbacks/oslpay"
CLAIMS = ("PASS", "REJECT", "FINAL_REJECT")
WORDS = (*CLAIMS, "PROCESS", "REVIEW")
MINUTE = 60_000
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@dataclass
class Target:
    """A user under attack. `tokens`: of the callbackUrls so far, oldest first; `user_id`: on OSL Pay, if known."""

    name: str
    user_id: str
    tokens: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Attack:
    """One request. `answers`: the statuses that it may get."""

    kind: str
    path: str
    headers: Sequence[tuple[str, bytes]]
    body: bytes
    answers: frozenset[int]


def _only(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


SIGNED = _only(200, 401)
"""What is signed is stored, or answered as forged."""


class Attacks:
    """Makes up attacks; the same seed and targets make up the same kinds in the same order.

    `signed_at`: every timestamp that was ever under a signature of OSL Pay's key.
    """

    def __init__(self, seed: int, targets: Sequence[Target]) -> None:
        self._random = random.Random(seed)
        self._targets = targets
        self._sent: deque[Attack] = deque(maxlen=2_000)
        self._pairs: deque[tuple[int, str]] = deque(maxlen=500)
        self._last = 0
        self.signed_at: set[int] = set()
        self.unsigned_at: set[int] = set()
        self._kinds: dict[str, tuple[int, Callable[[], Attack]]] = {
            "claim": (18, self._claim),
            "replayed": (10, self._replayed),
            "swapped": (10, self._swapped),
            "re-targeted": (8, self._retargeted),
            "re-encoded json": (6, self._json_twin),
            "re-encoded base64": (6, self._base64_twin),
            "other headers": (6, self._header_twin),
            "other appId": (4, self._other_app),
            "other key": (4, self._other_key),
            "unsigned": (6, self._unsigned),
            "stale": (4, self._stale),
            "future": (3, self._future),
            "outdated": (4, self._outdated),
            "unaddressed": (4, self._unaddressed),
            "unknown url": (3, self._unknown_url),
            "unknown word": (2, self._unknown_word),
            "garbled": (4, self._garbled),
            "huge": (1, self._huge),
            "nested": (2, self._nested),
        }

    def next(self) -> Attack:
        """One more."""
        names = list(self._kinds)
        [name] = self._random.choices(names, [weight for weight, _ in self._kinds.values()])
        made = replace(self._kinds[name][1](), kind=name)
        if 200 in made.answers:
            self._sent.append(made)
        return made

    # Parts ---------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        """Now, and later than any moment before, so that no two pairs of headers are alike by accident."""
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return self._last

    def _sign(self, timestamp: int) -> list[tuple[str, bytes]]:
        self.signed_at.add(timestamp)
        signature = osl_sign(rsa_key("osl"), APP_ID, str(timestamp))
        self._pairs.append((timestamp, signature))
        return _headers(str(timestamp), signature.encode())

    def _target(self) -> Target:
        return self._random.choice(self._targets)

    def _path(self, target: Target) -> str:
        return f"{WIDE}/{self._random.choice(target.tokens)}" if target.tokens else WIDE

    def _says(self, target: Target, word: str | None = None) -> dict[str, Any]:
        named = self._random.random() < 0.8
        reason = self._random.choice(["", "dark photo", "\u0000", "né" * 40])
        return status_change(
            target.user_id, target.name if named else None, word or self._random.choice(CLAIMS), reason
        )

    def _made(
        self,
        target: Target,
        headers: Sequence[tuple[str, bytes]],
        body: bytes | None = None,
        answers: frozenset[int] = SIGNED,
        path: str | None = None,
    ) -> Attack:
        if body is None:
            body = _json(self._says(target))
        return Attack("", path or self._path(target), headers, body, answers)

    # Signed, or seemingly so ---------------------------------------------------------------------------------

    def _claim(self) -> Attack:
        """As good as genuine: only the status query can tell."""
        target = self._target()
        body = _json(self._says(target, self._random.choice(WORDS)))
        return self._made(target, self._sign(self._now()), body)

    def _replayed(self) -> Attack:
        return self._random.choice(self._sent) if self._sent else self._claim()

    def _swapped(self) -> Attack:
        """Old headers over a body of their own."""
        if not self._pairs:
            return self._claim()
        timestamp, signature = self._random.choice(self._pairs)
        return self._made(self._target(), _headers(str(timestamp), signature.encode()))

    def _retargeted(self) -> Attack:
        """One user's webhook at another's URL, or with another's ids."""
        target, other = self._target(), self._target()
        says = self._says(other)
        if self._random.random() < 0.5:
            says["data"]["userId"] = target.user_id
        return self._made(target, self._sign(self._now()), _json(says))

    def _json_twin(self) -> Attack:
        """The same JSON in other letters, or one that two parsers read differently."""
        sent = self._replayed()
        try:
            says = json.loads(sent.body)
        except (ValueError, RecursionError):
            return self._claim()
        if not isinstance(says, dict):
            return self._claim()
        word = self._random.choice(CLAIMS)
        twins = [
            lambda: json.dumps(says, indent=2).encode(),
            lambda: json.dumps(says, ensure_ascii=False).encode(errors="surrogatepass"),
            lambda: json.dumps(dict(reversed(says.items()))).encode(),
            lambda: sent.body.replace(b"PASS", b"\\u0050ASS"),
            lambda: sent.body + b" \n",
            lambda: sent.body.replace(b'"kycStatus"', b'"kycStatus": "%s", "kycStatus"' % word.encode()),
            lambda: sent.body.replace(b'"kycStatus"', b'"KYCSTATUS": "%s", "kycStatus"' % word.encode()),
            lambda: sent.body.replace(b'"kycStatus"', b'"kyc\\u0053tatus": "%s", "kycStatus"' % word.encode()),
        ]
        return replace(sent, body=self._random.choice(twins)(), answers=SIGNED | {400, 413})

    def _stale(self) -> Attack:
        return self._made(self._target(), self._sign(self._now() - self._random.randrange(6 * MINUTE, 10**9)))

    def _future(self) -> Attack:
        far = self._random.choice([6 * MINUTE, 10**9, 9_999_999_990_000 - self._now()])
        return self._made(self._target(), self._sign(self._now() + far - self._random.randrange(1_000)))

    def _outdated(self) -> Attack:
        """At the URL of the first round, whatever round it is."""
        target = self._random.choice([target for target in self._targets if target.tokens])
        return self._made(target, self._sign(self._now()), path=f"{WIDE}/{target.tokens[0]}")

    def _unaddressed(self) -> Attack:
        target = self._target()
        says = self._says(target, self._random.choice(WORDS))
        if self._random.random() < 0.3:
            says["data"]["userId"] = str(self._random.randrange(10**12))
        if self._random.random() < 0.2:
            says["type"] = self._random.choice(["order_status_change", "defi_account_bind_status", "x"])
        return self._made(target, self._sign(self._now()), _json(says), path=WIDE)

    def _unknown_word(self) -> Attack:
        word = self._random.choice(["pass", "PASS ", "APPROVED", "P\u00c4SS", "1", "null"])
        target = self._target()
        return self._made(target, self._sign(self._now()), _json(self._says(target, word)))

    def _unknown_url(self) -> Attack:
        token = self._random.choice(["x", "%00", "%ff", "x" * 3_000, "..%2f..", "\u00e9".encode().hex()])
        return self._made(self._target(), self._sign(self._now()), answers=_only(404), path=f"{WIDE}/{token}")

    def _garbled(self) -> Attack:
        """Signed, but no JSON of the documented shape."""
        target = self._target()
        whole = _json(self._says(target))
        cut = self._random.randrange(1, len(whole))
        bodies = [
            b"",
            whole[:-cut],
            whole.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + whole,
            self._random.randbytes(200),
            whole.replace(b'"data"', b'"date"'),
            whole.replace(b'"PASS"', b'["PASS"]').replace(b"REJECT", b"\\ud800"),
            b"[" + whole + b"]",
            whole.replace(b'"userId": "', b'"userId": NaN, "x": "'),
        ]
        body = self._random.choice(bodies)
        return self._made(target, self._sign(self._now()), body, SIGNED | {400})

    def _nested(self) -> Attack:
        depth = self._random.choice([100, 900, 5_000, 30_000])
        target = self._target()
        inside = b"[" * depth + b"]" * depth
        bodies = [inside, b'{"a":' * (depth // 3), _json(self._says(target))[:-1] + b', "x": ' + inside + b"}"]
        body = self._random.choice(bodies)
        return self._made(target, self._sign(self._now()), body, SIGNED | {400, 413})

    def _huge(self) -> Attack:
        target, size = self._target(), self._random.choice([63_000, 65_001, 300_000])
        says = self._says(target) | {"filler": "x" * size}
        answers = SIGNED if size < 64_000 else _only(413)
        return self._made(target, self._sign(self._now()), _json(says), answers)

    # Not signed by OSL Pay -----------------------------------------------------------------------------------

    def _false(self, headers: Sequence[tuple[str, bytes]], timestamp: int) -> Attack:
        self.unsigned_at.add(timestamp)
        return self._made(self._target(), headers, answers=_only(401))

    def _unsigned(self) -> Attack:
        timestamp = self._now()
        signature = base64.b64encode(self._random.randbytes(self._random.choice([0, 1, 127, 128, 129])))
        headers = _headers(str(timestamp), signature)
        if self._random.random() < 0.5:
            headers.pop(self._random.randrange(3))
        return self._false(headers, timestamp)

    def _other_key(self) -> Attack:
        timestamp = self._now()
        key = rsa_key(self._random.choice(["merchant", "stranger"]))
        return self._false(_headers(str(timestamp), osl_sign(key, APP_ID, str(timestamp)).encode()), timestamp)

    def _other_app(self) -> Attack:
        timestamp = self._now()
        name = self._random.choice([APP_ID.upper(), f"{APP_ID}2", "", "other", f"{APP_ID}&timestamp={timestamp}"])
        signature = osl_sign(rsa_key("osl"), name, str(timestamp)).encode()
        return self._false(_headers(str(timestamp), signature, name.encode()), timestamp)

    def _base64_twin(self) -> Attack:
        """The right signature in another spelling."""
        timestamp = self._now()
        text = osl_sign(rsa_key("osl"), APP_ID, str(timestamp))
        bare = text.rstrip("=")
        spare = bare[:-1] + _BASE64[_BASE64.index(bare[-1]) ^ 1] + "=" * (len(text) - len(bare))
        at = self._random.randrange(1, len(bare))  # what is before the first letter is not of the header's value
        twins = [bare, spare, text + "=", text[:at] + " " + text[at:], text[:at] + "!" + text[at:], text * 2]
        if set("+/") & set(text):
            twins.append(text.replace("+", "-").replace("/", "_"))
        twins += [base64.b64encode(b"\0" + base64.b64decode(text)).decode(), base64.b64decode(text).hex()]
        return self._false(_headers(str(timestamp), self._random.choice(twins).encode()), timestamp)

    def _header_twin(self) -> Attack:
        """Headers that some code would read as the signed ones."""
        timestamp = self._now()
        text = str(timestamp)
        right = osl_sign(rsa_key("osl"), APP_ID, text).encode()
        odd = self._random.choice([f"+{text}", f"0{text}", f"{text}.0", f"{text[:-3]}", f"{int(text):,}", f"{text}e0"])
        over_odd = osl_sign(rsa_key("osl"), APP_ID, odd).encode()
        made = _headers(text, right)
        twins = [
            _headers(odd, right),
            _headers(odd, over_odd),
            [*made, made[self._random.randrange(3)]],
            _headers(str(timestamp + 1), right),
            _headers(text, b"\xe9" * len(right)),
        ]
        self.unsigned_at.add(timestamp + 1)
        self._last += 1
        return self._false(self._random.choice(twins), timestamp)


def _headers(timestamp: str, signature: bytes, app_id: bytes = APP_ID.encode()) -> list[tuple[str, bytes]]:
    return [("appId", app_id), ("timestamp", timestamp.encode()), ("signature", signature)]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
