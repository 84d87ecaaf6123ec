"""Who may come in: access tokens, sessions of signed-in browsers, wrong logins."""

from __future__ import annotations

from orchestrator.records import AccessToken, Session
from orchestrator.store.driver import Driver, Duplicate, Row, first
from orchestrator.store.driver import Session as Transaction

MOST_FAILURES = 10
"""Wrong tokens that are taken from one address within a window."""


class AccessStore:
    """Tokens and sessions; only hashes of secrets are stored."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def add_token(self, token: AccessToken) -> bool:
        """False: a token of that name is there already."""
        try:
            self._driver.write(
                lambda session: session.run(
                    "insert_token",
                    name=token.name,
                    role=token.role,
                    hash=token.hash,
                    created_at=token.created_at,
                )
            )
        except Duplicate:
            return False
        return True

    def tokens(self) -> list[AccessToken]:
        """All tokens, revoked ones too, oldest first."""
        return [AccessToken(**row) for row in self._driver.rows("tokens")]

    def token(self, token_hash: str) -> AccessToken | None:
        """The working token of this hash."""
        row = first(self._driver.rows("token_of_hash", hash=token_hash))
        return None if row is None else AccessToken(**row)

    def revoke_token(self, name: str, now: int) -> bool:
        """False: no working token has that name."""
        return bool(self._driver.write(lambda session: session.run("revoke_token", name=name, now=now)))

    def add_session(self, session_hash: str, token_name: str, now: int, oldest: int, idlest: int) -> None:
        """A browser signed in; sessions begun before `oldest` or unused since `idlest` are removed."""

        def work(transaction: Transaction) -> None:
            transaction.run("remove_old_sessions", created_before=oldest, seen_before=idlest)
            transaction.run("insert_session", hash=session_hash, token_name=token_name, now=now)

        self._driver.write(work)

    def session(self, session_hash: str) -> Session | None:
        """The session, if its token still works; whether it is too old is the caller's to say."""
        row = first(self._driver.read(lambda transaction: transaction.rows("session", hash=session_hash)))
        return None if row is None else Session(**row)

    def touch_session(self, session_hash: str, now: int) -> None:
        """The session was used."""
        self._driver.write(lambda transaction: transaction.run("touch_session", hash=session_hash, now=now))

    def remove_session(self, session_hash: str) -> None:
        """Signed out."""
        self._driver.write(lambda transaction: transaction.run("remove_session", hash=session_hash))

    def login_failures(self, address_hash: str, since: int) -> tuple[int, int]:
        """How many wrong tokens came from an address after `since` (ms), and when the first of them."""
        return _failures(self._driver.rows("login_failures", address_hash=address_hash, since=since)[0], since)

    def add_login_failure(self, address_hash: str, now: int, since: int) -> tuple[int, int]:
        """A wrong token from an address, which is kept unless there are MOST_FAILURES after `since` already.

        How many there were before it, and when the first of them: no two at once are told the same number.
        """

        def work(session: Transaction) -> tuple[int, int]:
            session.run("lock_login_failures", now=now)
            session.run("forget_login_failures", before=since)
            row = session.rows("login_failures", address_hash=address_hash, since=since)[0]
            failures, first_at = _failures(row, since)
            if failures < MOST_FAILURES:
                session.run("insert_login_failure", address_hash=address_hash, at=now)
            return failures, first_at

        return self._driver.write(work)


def _failures(row: Row, since: int) -> tuple[int, int]:
    return row["failures"], row["first_at"] or since
