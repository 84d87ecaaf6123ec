"""Looks for what nobody may read: in files as they are written, in logs, and in answers, in every likely spelling."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.databases import connected, dump
from tests.installation import Installation, User, http
from tests.sandbox_process import API_KEY, SECRET_KEY, private_pem, rsa_key
from tests.service import signed, status_change

PERSONAL = {
    "firstName": "Zoë-Marisol",
    "lastName": "Quillfeather",
    "address": "77 Unmistakable Road",
    "phoneNumber": "+85255512345",
    "ip": "198.51.100.177",
}
"""What is put into profiles to be looked for."""

_LONGEST_KEPT = 6_000_000


def spellings(secret: bytes) -> set[bytes]:
    """The secret itself, and what base64, hex, URLs and JSON make of it, wherever in a longer text it stands."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        # Neither the first characters nor the last depend on this secret alone.
        encoded = base64.b64encode(b"\0" * shift + secret).rstrip(b"=")
        inner = encoded[(shift * 8 + 5) // 6 : len(encoded) - 1]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    with suppress(UnicodeDecodeError):
        text = secret.decode()
        found |= {quote(text).encode(), quote(text, safe="").encode(), quote(text).lower().encode()}
        found |= {json.dumps(text)[1:-1].encode(), text.encode("utf-16-le"), text.casefold().encode()}
        found |= {repr(text)[1:-1].encode(), text.encode("latin-1", "ignore")}
    return {spelling for spelling in found if len(spelling) >= 6}


class Needles:
    """Secrets by what they are; `find` names those that a content shows."""

    def __init__(self, secrets: Mapping[str, Iterable[bytes]]) -> None:
        self._spellings = {
            spelling: what for what, values in secrets.items() for value in values for spelling in spellings(value)
        }

    def __len__(self) -> int:
        return len(self._spellings)

    def find(self, content: bytes) -> set[str]:
        """What of it stands in `content`."""
        return {f"{what} as {spelling[:40]!r}" for spelling, what in self._spellings.items() if spelling in content}


class FileWatch:
    """Keeps what the processes below some others write to files, temporary and unlinked ones too, as it is seen.

    `roots()`: pids; `folders`: looked through as well; `apart`: files whose content is looked at otherwise.
    """

    def __init__(self, roots: Callable[[], Iterable[int]], folders: Iterable[Path], apart: Iterable[Path]) -> None:
        self.seen: dict[str, bytes] = {}
        self._roots = roots
        self._folders = list(folders)
        self._apart = {str(path) for path in apart}
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> FileWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(0.02):
            for path in self._open_files():
                self._keep(path)
            for folder in self._folders:
                for path in folder.rglob("*"):
                    self._keep(path)

    def _open_files(self) -> Iterator[Path]:
        for pid in self._tree():
            with suppress(OSError):
                yield from [Path(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]

    def _tree(self) -> list[int]:
        found = list(self._roots())
        for pid in found:
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    found += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
        return found

    def _keep(self, path: Path) -> None:
        with suppress(OSError):
            name = os.readlink(path) if path.parts[1] == "proc" else str(path)
            found = path.stat()
            changed = (found.st_size, found.st_mtime_ns)
            key = (found.st_dev, found.st_ino)
            if name in self._apart or not stat.S_ISREG(found.st_mode) or self._sizes.get(key) == changed:
                return
            self._sizes[key] = changed
            with path.open("rb") as file:
                self.seen[f"{name} {found.st_ino} {len(self.seen)}"] = file.read(_LONGEST_KEPT)


class Watched:
    """An installation whose files are watched while it is used; afterwards everything is looked through."""

    def __init__(self, site: Installation, temporary: Path) -> None:
        self._site = site
        database = [site.database.with_name(f"{site.database.name}{end}") for end in ("", "-wal", "-shm")]
        self._database, self._log, _ = database
        logs = [site.folder / f"{name}.log" for name in ("web", "worker")]
        folders = [temporary, site.folder / "documents"]
        self._watch = FileWatch(self._pids, folders, [*database, *logs])

    def _pids(self) -> list[int]:
        return [process.pid for process in (self._site.web, self._site.worker) if process is not None]

    def __enter__(self) -> Watched:
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)

    def leaks(self, users: list[User], refusals: list[str]) -> dict[str, Any]:
        """By place, what was found and how many bytes were looked at; how many spellings; what files were watched."""
        site, needles = self._site, Needles(self._secrets(users))
        assert site.sandbox
        documents = [path for path in (site.folder / "documents").rglob("*") if path.is_file()]
        told = json.dumps([notice.data for user in users for notice in site.merchant.told(user.name)])
        places = {
            **self._stored(),
            "documents": b"".join(str(path).encode() + path.read_bytes() for path in documents),
            "files while they were written": b"".join(self._watch.seen.values()),
            "logs": (site.log("web") + site.log("worker")).encode(),
            "errors": "\n".join(refusals).encode(),
            "notifications": told.encode(),
            "what the sandbox received": json.dumps(site.sandbox.requests()).encode(),
        }
        return {
            "found": {place: sorted(needles.find(content)) for place, content in places.items()},
            "sizes": {place: len(content) for place, content in places.items()},
            "needles": len(needles),
            "watched": list(self._watch.seen),
        }

    def _stored(self) -> dict[str, bytes]:
        if Installation.server is None:
            return {"database": self._database.read_bytes(), "write-ahead log": self._log.read_bytes()}
        with connected(self._site.environ["ORCHESTRATOR_DATABASE_URL"]) as database:
            return {"database": dump(database).encode()}

    def _secrets(self, users: list[User]) -> dict[str, list[bytes]]:
        site = self._site
        assert site.sandbox
        environ = site.environ
        shares = site.sandbox.summary()["shares"]
        contents = [content for user in users for content in user.contents.values()]
        keys = [environ["ORCHESTRATOR_ENCRYPTION_KEYS"], site.signup_secret, site.merchant.secret, SECRET_KEY, API_KEY]
        keys += private_pem(rsa_key("merchant")).splitlines()[2:4]
        links = [site.onboarding(user)["uploadUrl"] or "" for user in users]
        return {
            "name": [PERSONAL["firstName"].encode(), PERSONAL["lastName"].encode()],
            "address": [PERSONAL[name].encode() for name in ("address", "phoneNumber", "ip")],
            "email": [user.email.encode() for user in users],
            "id number": [user.id_number.encode() for user in users],
            "document": [
                content[at : at + 24] for content in contents for at in (len(content) // 3, len(content) // 2)
            ],
            "key": [*(key.encode() for key in keys), base64.b64decode(environ["ORCHESTRATOR_ENCRYPTION_KEYS"])],
            "bearer token": [site.token.encode()],
            "link": [link.rsplit("/", 1)[1].encode() for link in links if link],
            "callback token": [row["callbackUrl"].rsplit("/", 1)[1].encode() for row in shares],
        }


def provoke(site: Installation, user: User, shared: User) -> list[str]:
    """Requests and commands that give values away if anything does; every refusal.

    `user`: one who is still collecting; `shared`: one whom OSL Pay knows.
    """
    profile = {name: f"{value} {user.id_number}" for name, value in PERSONAL.items()}
    data = {
        "merchantUserId": user.name,
        "email": f"{user.email} {user.id_number}",
        "profile": profile | {"x": user.email},
    }
    said = [site.post_signup(data), site.post_signup({**data, "profile": user.email})]
    path = f"onboardings/{user.id}"
    content = next(iter(user.contents.values()))
    with_token = {"Authorization": f"Bearer {site.token}"}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "onboardings", {"json": data}),
        ("POST", "onboardings", {"data": json.dumps(data).encode()[:-1]}),
        ("PATCH", f"{path}/profile", {"json": profile}),
        ("PUT", f"{path}/documents/selfie", {"data": b"no" + content}),
        ("PUT", f"{path}/documents/selfie", {"data": content}),
        ("PUT", f"{path}/documents/selfie", {"data": content * 20_000}),
        ("GET", "onboardings/onb_unknown", {}),
        ("POST", f"{path}/retry", {}),
        ("POST", f"{path}/authorization/cancel", {"json": {"userKey": user.id_number}}),
        ("GET", f"onboardings?cursor={user.email}&q={user.email}", {}),
    ]
    said += [http(method, f"{site.url}/api/v1/{where}", headers=with_token, **how) for method, where, how in calls]
    said += [http("GET", f"{site.url}/api/v1/onboardings", headers={"Authorization": "Bearer orc_wrong"})]
    url = site.callback_url(shared)
    for word, reason in (("PASS", PERSONAL["lastName"]), (user.email, user.id_number)):
        body = status_change("9999", user.name, word, reason)
        said.append(http("POST", url, data=json.dumps(body).encode()))
        for raw in (json.dumps(body).encode(), json.dumps(body).encode()[:-1], json.dumps([body]).encode()):
            sent = signed(1_700_000_000_000 + len(said), raw)
            said.append(http("POST", url, data=sent.body, headers=sent.headers))
    link = site.onboarding(user)["uploadUrl"]
    said += [http("GET", link), http("POST", link, data={"firstName": PERSONAL["firstName"], "nobody": user.email})]
    said += [http("POST", f"{site.url}/login", data={"token": site.token, "csrf": user.email}, headers={"Origin": "x"})]
    listed = http("GET", f"{site.url}/api/v1/onboardings", headers=with_token)
    assert listed.status_code == 200
    wrong = site.folder / "wrong.jsonl"
    wrong.write_text(json.dumps(data) + "\n" + json.dumps(data)[:-1] + "\n", "utf-8")
    commands = [
        ("import", str(wrong), "--documents", str(site.folder)),
        ("retry", user.name),
        ("resubmit", user.name, "--reason", user.id_number),
        ("show", user.email),
        ("doctor",),
    ]
    texts = [f"{done.stdout}{done.stderr}" for done in (site.command(*each, expect=None) for each in commands)]
    wrong.unlink()
    missing = {200, 400, 401, 403, 404, 409, 413, 415, 422} - {answer.status_code for answer in said}
    assert not missing, f"nothing was answered with {missing}"
    refused = [answer for answer in said if answer.status_code >= 400]
    return [*(f"{answer.status_code} {answer.headers} {answer.text}" for answer in refused), *texts]
