"""The kill points as data: every write that a process may be killed right before or right after, and what follows.

`tests/acceptance/test_kill_points.py` and `tests/integration/test_killed_commands.py` kill real processes at each and
compare; `docs/make_guarantees.py` writes the rows into docs/guarantees.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WORKER, WEB = "worker", "web"

NOTHING: Mapping[str, int] = {}
UPLOAD, FILE, SHARE, QUESTION, TRY = "upload", "file", "share", "question", "try"
ONE_ROUND = {UPLOAD: 1, FILE: 2, SHARE: 1}
APPROVED, PARKED = ("approved", 1), ("needs_attention", 1)


@dataclass(frozen=True)
class Provided:
    """A write of the worker on a user's way through the providers.

    `story`: the sandbox's; `scene`: what else is arranged. `usual`: all calls made for the user without a kill;
    `before`, `after`: how many more there are with one. `end`: state and round; `told`: what the merchant hears.
    Questions are compared where `usual` counts them.
    """

    name: str
    does: str
    story: str
    before: Mapping[str, int] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    usual: Mapping[str, int] = field(default_factory=lambda: ONE_ROUND)
    end: tuple[str, int] = APPROVED
    told: tuple[str, ...] = ("submitted", "approved")
    scene: str = ""
    process = WORKER


@dataclass(frozen=True)
class Asked:
    """A write for somebody who asks: a request to the web process, or a command.

    `again`: what it says when the same is asked again after a kill before the write, and after one behind it.
    `end`: state and round; None where it is about no onboarding. `scene`: what the request finds.
    """

    name: str
    does: str
    again: tuple[str, str]
    end: tuple[str, int] | None = None
    scene: str = ""
    process: str = WEB


SILENT = {**ONE_ROUND, QUESTION: 1}
LOST = {**ONE_ROUND, QUESTION: 2}
REFUSED = {UPLOAD: 1, FILE: 2, SHARE: 1}
IN_ROUND_2 = ("submitted", "resubmission_required", "submitted", "approved")

SHARES = [
    Provided("share_intended", "the intent to share, with the round's token", "silent", NOTHING, {QUESTION: 3}, SILENT),
    Provided("shared", "the share's answer", "silent", {QUESTION: 1}, NOTHING, SILENT),
    Provided("share_lost", "that the share's answer is lost", "silent", NOTHING, NOTHING, LOST, scene="lost"),
    Provided(
        "share_question", "a question that proved nothing", "silent", NOTHING, NOTHING, {**LOST, QUESTION: 3},
        scene="lost, not seen",
    ),
    Provided("share_found", "the proof that it arrived", "silent", {QUESTION: 1}, NOTHING, LOST, scene="lost"),
    Provided(
        "share_unproven", "that nothing proves it", "silent", {QUESTION: 1}, NOTHING, {**LOST, SHARE: 2, QUESTION: 4},
        scene="never arrived",
    ),
]  # fmt: skip
"""The writes around a share: in each round, and with a status query that lags."""

PROVIDED = [
    Provided("uploaded", "BTSE Pay has the documents", "silent", {UPLOAD: 1}),
    Provided("file_uploaded idFileFront", "the first file's URL", "silent", {FILE: 1}),
    Provided("file_uploaded selfie", "the last file's URL", "silent", {FILE: 1}),
    *SHARES,
    Provided("early_applied", "the share's answer, and the webhook that came before it", "early"),
    Provided("step_failed", "that a call failed and is tried again", "flaky", usual={UPLOAD: 3, FILE: 2, SHARE: 3}),
    Provided(
        "gave_up", "a refusal", "declined", {QUESTION: 3, SHARE: 1}, NOTHING, {**REFUSED, QUESTION: 0},
        end=PARKED, told=("submitted", "needs_attention"),
    ),
    Provided("confirmed_pass", "that the status query agrees: passed", "pass"),
    Provided(
        "confirmed_reject", "that the status query agrees: again", "reject",
        usual={UPLOAD: 2, FILE: 2, SHARE: 2}, end=("approved", 2), told=IN_ROUND_2,
    ),
    Provided(
        "confirmed_final_reject", "that the status query agrees: rejected", "final",
        end=("rejected", 1), told=("submitted", "rejected"),
    ),
    Provided("unconfirmed", "that the status query does not agree yet", "pass", scene="PROCESS"),
    Provided("contradicted", "that the status query never agreed", "pass", scene="PROCESS"),
    Provided("answered_pass", "a poll's answer: passed", "silent", {QUESTION: 1}, NOTHING, SILENT),
    Provided("answered_open", "a poll's answer: nothing new", "silent", scene="PROCESS"),
    Provided(
        "answered_review", "a poll's answer: in review", "silent", scene="REVIEW",
        told=("submitted", "in_review", "approved"),
    ),
    Provided("answered_reject", "a poll's answer: rejected", "silent", scene="REJECT"),
    Provided(
        "answered_reject_again", "the same a second time", "silent", scene="REJECT for good",
        end=PARKED, told=("submitted", "needs_attention"),
    ),
    Provided(
        "answered_final_reject", "a poll's answer: rejected for good", "silent", scene="FINAL_REJECT",
        end=("rejected", 1), told=("submitted", "rejected"),
    ),
    Provided(
        "doubt_answered", "the answer about a webhook that was not believed", "silent",
        scene="doubted", end=PARKED, told=("submitted", "needs_attention"),
    ),
    Provided("given_back", "nothing: a newer webhook voided the answer", "silent", scene="two claims"),
    Provided("settle_delivery", "that the merchant has a notification, and the lease on the next", "silent", {TRY: 1}),
]  # fmt: skip

CONFLICT, NOT_THERE = "409", "404"
PUT = ("200", "200")
IN_2 = ("approved", 2)
WAITS, COLLECTS = ("awaiting_callback", 1), ("collecting", 1)

WEB_WRITES = [
    Asked("signed_up", "a signup", ("202", "200"), COLLECTS, "new"),
    Asked("remember_signup", "the webhook-id of one who is there already", PUT, COLLECTS, "collected"),
    Asked("profile_patched", "a change of the profile", PUT, COLLECTS, "collected"),
    Asked("file_written", "a document's sealed file", PUT, COLLECTS, "collected"),
    Asked("document_put", "a document's row", PUT, COLLECTS, "collected"),
    Asked("document_removed", "a document's row that goes", ("204", NOT_THERE), COLLECTS, "collected"),
    Asked("file_removed", "the file of one that was replaced", PUT, COLLECTS, "collected"),
    Asked("link_renewed", "a new link", PUT, COLLECTS, "collected"),
    Asked("submitted", "a submit", ("202", CONFLICT), PARKED, "collected, refused"),
    Asked("submitted_unchanged", "a submit without edits", ("202", CONFLICT), PARKED, "declined"),
    Asked("submitted_again", "a submit that opens the next round", ("202", CONFLICT), IN_2, "shared and parked"),
    Asked("retried", "an operator's retry", ("202", CONFLICT), PARKED, "declined"),
    Asked("retried_changed", "an operator's retry after an edit", ("202", CONFLICT), PARKED, "refused"),
    Asked("resubmission_asked", "an operator asks for another round", ("202", CONFLICT), ("collecting", 2), "refused"),
    Asked("cancel_asked", "a cancel", ("202", CONFLICT), ("cancelled", 1), "refused"),
    Asked("hurried", "that the next step is to be taken now", ("303", "303 or 409"), APPROVED, "shared and parked"),
    Asked("revealed", "that somebody looked at the personal data", PUT, COLLECTS, "collected"),
    Asked("resend_delivery", "that a notification is to be sent again", ("202", "202 or 409"), PARKED, "refused"),
    Asked("callback_process", "a webhook: PROCESS", PUT, WAITS, "waiting"),
    Asked("callback_review", "a webhook: REVIEW", PUT, ("in_review", 1), "waiting"),
    Asked("callback_pass", "a webhook's claim: PASS", PUT, APPROVED, "waiting"),
    Asked("callback_reject", "a webhook's claim: REJECT", PUT, ("collecting", 2), "waiting"),
    Asked("callback_final_reject", "a webhook's claim: FINAL_REJECT", PUT, ("rejected", 1), "waiting"),
    Asked("callback_early", "a webhook while the share is under way", PUT, APPROVED, "sharing"),
    Asked("callback_doubted", "a stale webhook", PUT, WAITS, "waiting"),
    Asked("callback_kept", "a webhook that moves nobody", PUT, WAITS, "waiting"),
    Asked("callback_counted", "one more of too many forged ones", ("401", "401"), WAITS, "waiting, forged"),
    Asked("count_again", "a webhook that came before", PUT, WAITS, "waiting, believed"),
    Asked("keep_orphan", "a webhook about nobody we know", PUT, None, "wide"),
    Asked("add_session", "a sign-in", ("303", "303"), None, "signed out"),
    Asked("touch_session", "that a session is in use", PUT, None, "signed in"),
    Asked("remove_session", "a sign-out", ("303", "303"), None, "signed in"),
    Asked("add_login_failure", "a wrong token", ("401", "401"), None, "signed out"),
    Asked("check_writable", "nothing: /readyz tries whether it could", PUT, None, "anyone"),
]  # fmt: skip

AGAIN, AFTER_LEASE = "done", "done when the lease is over"
GONE = ("cancelled", 1)

COMMANDS = [
    Asked("migrate", "the schema", (AGAIN, AGAIN), None, "", "migrate"),
    Asked("add_token", "an access token", (AGAIN, "exit 1: the name is taken"), None, "", "token create"),
    Asked("revoke_token", "that a token is revoked", (AGAIN, "exit 1: it is revoked"), None, "", "token revoke"),
    Asked("take_slot", "one request of OSL Pay's budget", (AGAIN, AGAIN), None, "", "doctor"),
    Asked("free_slot", "that it is free again", (AGAIN, AGAIN), None, "", "doctor"),
    Asked("erasure_noted", "the line of erasures.log", (AGAIN, AGAIN), GONE, "", "erase"),
    Asked("erased", "that all that is personal is gone", (AGAIN, "exit 1: it is erased"), GONE, "", "erase"),
    Asked("forget_hours", "that old figures are forgotten", (AGAIN, AGAIN), GONE, "", "purge"),
    Asked("documents_deleted", "that the time of documents is over", (AGAIN, AGAIN), GONE, "", "purge"),
    Asked("profile_deleted", "that the time of a profile is over", (AGAIN, AGAIN), GONE, "", "purge"),
    Asked("document_resealed", "a document's new file", (AGAIN, AGAIN), COLLECTS, "", "reseal"),
    Asked("resealed", "a row under the new key", (AGAIN, AGAIN), COLLECTS, "", "reseal"),
    Asked("replace_body", "a body under the new key", (AGAIN, AGAIN), COLLECTS, "", "reseal"),
    Asked("backup", "nothing: the copy that goes into the archive", (AGAIN, AGAIN), None, "", "backup"),
    Asked("restored", "in the copy, that a share is asked about first", (AGAIN, AGAIN), None, "", "restore"),
    Asked("restore", "the settled copy in place of an empty one", (AGAIN, "exit 1: it is there"), None, "", "restore"),
    Asked("set_budget", "OSL Pay's budget", (AGAIN, AGAIN), None, "", "worker"),
    Asked("beat", "that a worker is alive", (AGAIN, AGAIN), None, "", "worker"),
    Asked("take_chore", "who purges today", (AGAIN, "done the day after"), None, "", "worker"),
    Asked("count", "figures of what was called; a second of them may be lost", (AGAIN, AGAIN), APPROVED, "", "worker"),
    Asked("claim", "the lease on a due row", (AGAIN, AFTER_LEASE), APPROVED, "", "worker"),
    Asked("claim_deliveries", "the lease on a notification", (AGAIN, AFTER_LEASE), APPROVED, "", "worker"),
    Asked("time_ran_out", "that the time to submit is over", (AGAIN, AGAIN), ("expired", 1), "", "worker"),
    Asked("stop_worker", "that a worker stopped", (AGAIN, AGAIN), None, "", "worker"),
]  # fmt: skip
