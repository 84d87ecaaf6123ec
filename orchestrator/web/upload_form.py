"""What the end user's page asks, in which order and words, and what to do about an answer that is refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.machine import State
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.profile import BTSE_FIELDS, CHOICES, LARGEST_DOCUMENT, OSL_FIELDS, countries

NEEDED = frozenset((*BTSE_FIELDS, *OSL_FIELDS))
FILES = ("idFileFront", "idFileBack", "selfie")

_ID_TYPES = {"ID_CARD": "Identity card", "PASSPORT": "Passport", "DRIVERS": "Driving licence"}
_GENDERS = {"M": "Male", "F": "Female"}
_FIXES = {
    "text": "Use ordinary letters, digits and signs, at most {} of them.",
    "date": "Enter a date as year-month-day, such as 1990-12-31.",
    "tel": "Enter the number with its country code, such as +852 5555 1234.",
    "select": "Choose one from the list.",
}


@dataclass(frozen=True)
class Question:
    """One detail asked for. `control`: text, date, tel or select; `options`: value → words, for a select."""

    name: str
    label: str
    control: str = "text"
    hint: str = ""
    autocomplete: str = "off"
    options: Mapping[str, str] = field(default_factory=dict)
    longest: int = 128

    @property
    def fix(self) -> str:
        """What to do when the answer is refused."""
        return _FIXES[self.control].format(self.longest)


@dataclass(frozen=True)
class Section:
    """Questions that belong together. `extra`: those that most people skip, under the words `extra_title`."""

    title: str
    intro: str
    questions: Sequence[Question]
    extra_title: str = ""
    extra: Sequence[Question] = ()


@dataclass(frozen=True)
class FileQuestion:
    """One document asked for."""

    kind: str
    label: str
    hint: str
    camera: bool = False


FILE_QUESTIONS = (
    FileQuestion(
        "idFileFront", "Front of your document", "The page or side with your photo, all four corners in view."
    ),
    FileQuestion(
        "idFileBack", "Back of your document", "For an identity card or a driving licence. Not for a passport."
    ),
    FileQuestion(
        "selfie", "Photo of you", "Your face from the front, in good light, nothing covering it.", camera=True
    ),
)
TOO_LARGE = f"This file is larger than {LARGEST_DOCUMENT // 1_000_000} MB. Choose a smaller one."
TOO_LARGE_TOGETHER = "Your files together are too large. Choose a smaller one here."
NOT_READABLE = "This file cannot be read as a JPG, PNG or PDF. Take the photo again or choose another file."
TWO_FILES = "Two files were chosen. Choose only one: a new photo or a file."
_NEEDED_ELSEWHERE = {
    "documents": "Your files together are too large. Replace one of them with a smaller one.",
    "email": "The company that sent you this link has not given us your email address: ask them to.",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a submission, for the end user. `tone`: the badge's colour."""

    title: str
    text: str
    tone: str


_CHECKING = Outcome(
    "We are checking your details",
    "Everything has arrived, thank you. There is nothing for you to do now. This page will show the result: come back"
    " to it whenever you like.",
    "busy",
)
_REVIEWING = Outcome(
    "We are still checking your details",
    "This takes a little longer than usual. There is nothing for you to do now. This page will show the result: come"
    " back to it whenever you like.",
    "wait",
)
_OUTCOMES = {
    State.IN_REVIEW: _REVIEWING,
    State.NEEDS_ATTENTION: _REVIEWING,
    State.APPROVED: Outcome("Your identity is confirmed", "You are all set. You can close this page.", "good"),
    State.REJECTED: Outcome(
        "Your identity could not be confirmed",
        "The check has ended and you cannot send anything again here. Contact the company that sent you this link if"
        " you have questions.",
        "bad",
    ),
    State.CANCELLED: Outcome(
        "This check was ended",
        "Nothing more is needed from you. Contact the company that sent you this link if you did not expect this.",
        "quiet",
    ),
}


def still_needed(path: str) -> str:
    """What to do about a path that stands in the way of a submit."""
    return _NEEDED_ELSEWHERE.get(path, "This is still needed.")


def outcome(state: State) -> Outcome:
    """What the end user is told once there is nothing to fill in."""
    return _OUTCOMES.get(state, _CHECKING)


def sections(context: Context) -> tuple[Section, ...]:
    """The questions of the page, in order, with the dialects' choices."""
    nations = dict(sorted(countries().items(), key=lambda pair: pair[1].casefold()))
    osl = context.dialects.osl
    return (
        _name(),
        Section(
            "About you",
            "",
            (
                Question("dob", "Date of birth", "date", autocomplete="bday"),
                Question(
                    "gender", "Gender", "select", options={word: _GENDERS.get(word, word) for word in osl.genders}
                ),
                Question("nationality", "Nationality", "select", options=nations),
                Question("residentialCountry", "Country where you live", "select", options=nations),
                Question("phoneNumber", "Phone number", "tel", "With country code: +852 5555 1234", "tel"),
            ),
        ),
        Section(
            "Your identity document",
            "Use a document that is valid today.",
            (
                Question(
                    "idType", "Type", "select", options={word: _ID_TYPES.get(word, word) for word in osl.id_types}
                ),
                Question("idNumber", "Number", hint="Exactly as printed on the document"),
                Question("idCountry", "Issued by", "select", options=nations),
                Question("idExpiry", "Valid until", "date"),
            ),
        ),
        _address(),
        Section("A few questions", "These belong to the check.", _choices(context)),
    )


def _name() -> Section:
    return Section(
        "Your name",
        "As it is written on your identity document.",
        (
            Question("firstName", "First name", autocomplete="given-name"),
            Question("middleName", "Middle name", autocomplete="additional-name"),
            Question("lastName", "Last name", autocomplete="family-name"),
        ),
        "My name is not written in Latin letters",
        (
            Question("firstNameEn", "First name in Latin letters"),
            Question("middleNameEn", "Middle name in Latin letters"),
            Question("lastNameEn", "Last name in Latin letters"),
        ),
    )


def _address() -> Section:
    return Section(
        "Your address",
        "Where you live now.",
        (
            Question("street", "Street", autocomplete="address-line1"),
            Question("number", "House number"),
            Question("district", "District", autocomplete="address-level3"),
            Question("city", "Town or city", autocomplete="address-level2"),
            Question("state", "State or province", autocomplete="address-level1"),
            Question("zip", "Postcode", autocomplete="postal-code"),
        ),
        "My address does not fit into these boxes",
        (Question("address", "Whole address in one line", autocomplete="street-address", longest=500),),
    )


def _choices(context: Context) -> tuple[Question, ...]:
    offered = context.dialects.choices
    labels = {
        "accountPurpose": ("What will you use the account for?", offered.account_purpose),
        "monthSpend": ("How much do you expect to spend in a month?", offered.month_spend),
        "sourceFunds": ("Where does the money come from?", offered.source_funds),
        "occupation": ("What do you do for a living?", offered.occupation),
    }
    return tuple(
        Question(name, labels[name][0], "select", options={word: word for word in labels[name][1]}) for name in CHOICES
    )
