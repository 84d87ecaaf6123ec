"""What the end user's page asks, in which order and words, and what to do about an answer that is refused.

Words are in the language of the request: nothing here is kept between requests.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from orchestrator.onboarding.context import DAY, Context
from orchestrator.onboarding.look import View
from orchestrator.onboarding.profile import BTSE_FIELDS, CHOICES, LARGEST_DOCUMENT, OSL_FIELDS, PHONE_NUMBER
from orchestrator.web.language import countries
from orchestrator.web.language import gettext as _
from orchestrator.web.upload_words import choice_words

NEEDED = frozenset((*BTSE_FIELDS, *OSL_FIELDS))
FILES = ("idFileFront", "idFileBack", "selfie")
START, CHECK = "start", "check"


@dataclass(frozen=True)
class Question:
    """One detail asked for. `control`: text, date, tel, select or cards; `options`: value → words, where chosen.

    `earliest`, `latest`: the days between which a date must be, both included; `out_of_time`: what to do about another.
    """

    name: str
    label: str
    control: str = "text"
    hint: str = ""
    autocomplete: str = "off"
    options: Mapping[str, str] = field(default_factory=dict)
    longest: int = 128
    earliest: str = ""
    latest: str = ""
    out_of_time: str = ""

    @property
    def is_needed(self) -> bool:
        """Whether nothing can be submitted without it."""
        return self.name in NEEDED

    @property
    def pattern(self) -> str:
        """What a browser can check it by."""
        return PHONE_NUMBER if self.control == "tel" else ""

    @property
    def fix(self) -> str:
        """What to do when the answer is refused."""
        if self.control == "date":
            return _("Enter a date as year-month-day, such as 1990-12-31.")
        if self.control == "tel":
            return _("Enter the number with its country code, such as +852 5555 1234.")
        if self.control in ("select", "cards"):
            return _("Choose one from the list.")
        return _("Use ordinary letters, digits and signs, at most %(longest)d of them.", longest=self.longest)

    def answer(self, typed: str) -> str:
        """What was typed or pasted, without what nobody sees: marks of direction come along from a list of contacts.

        A telephone number is read in full-width digits too, and with any kind of dash.
        """
        text = _without(typed, "Cf")
        if self.control == "tel":
            text = _without(unicodedata.normalize("NFKC", text), "Pd", "-")
        return " ".join(text.split())

    def refusal(self, text: str) -> str:
        """What to do about a day that is too early or too late; "" for whatever else is answered."""
        is_too_early = bool(self.earliest) and text < self.earliest
        is_too_late = bool(self.latest) and text > self.latest
        return self.out_of_time if (is_too_early or is_too_late) and _is_day(text) else ""


@dataclass(frozen=True)
class FileQuestion:
    """One document asked for. `facing`: the camera that takes it, `user` or `environment`."""

    kind: str
    label: str
    hints: Sequence[str]
    facing: str


@dataclass(frozen=True)
class Step:
    """One screen: questions that belong together, or one document.

    `extra`: questions that most people skip, under the words `extra_title`.
    """

    name: str
    title: str
    intro: str = ""
    questions: Sequence[Question] = ()
    extra_title: str = ""
    extra: Sequence[Question] = ()
    file: FileQuestion | None = None
    short: str = ""
    """What it is called in a list, where its title is a question."""

    @property
    def asked(self) -> Sequence[Question]:
        """All its questions."""
        return (*self.questions, *self.extra)

    @property
    def paths(self) -> Sequence[str]:
        """What it asks for, such as `profile.dob` or `documents.selfie`."""
        if self.file:
            return (f"documents.{self.file.kind}",)
        return tuple(f"profile.{question.name}" for question in self.asked)

    def labels(self) -> Mapping[str, str]:
        """Path → what it is called here."""
        names = [self.file.label] if self.file else [question.label for question in self.asked]
        return dict(zip(self.paths, names, strict=True))

    def lacks(self, view: View) -> Sequence[str]:
        """The paths that are still needed to submit."""
        return [path for path in self.paths if path in view.missing]

    def is_begun(self, view: View) -> bool:
        """Whether anything that it asks for is there."""
        there = {f"documents.{document.kind}" for document in view.documents}
        return not {*there, *(f"profile.{name}" for name in view.fields_present)}.isdisjoint(self.paths)


def steps(context: Context, view: View) -> tuple[Step, ...]:
    """The screens between start and check, in order."""
    found = (*detail_steps(context), *_file_steps())
    return tuple(step for step in found if step.name != "back" or _back_is_asked(view))


def following(all_steps: Sequence[Step], name: str, view: View) -> str:
    """The screen after this one: the next that lacks something or was not begun, else the check."""
    names = [step.name for step in all_steps]
    rest = all_steps[names.index(name) + 1 :] if name in names else ()
    return next((step.name for step in rest if step.lacks(view) or not step.is_begun(view)), CHECK)


def first_lacking(all_steps: Sequence[Step], view: View) -> str:
    """Where someone who comes back goes on."""
    return next((step.name for step in all_steps if step.lacks(view)), CHECK)


def still_needed(path: str) -> str:
    """What to do about a path that stands in the way of a submit."""
    if path == "documents":
        return _("Your files together are too large. Replace one of them with a smaller one.")
    if path == "email":
        return _("The company that sent you this link has not given us your email address: ask them to.")
    if path.startswith("documents."):
        return _("This is still needed: take a photo or choose a file.")
    return _("This is still needed.")


def too_large() -> str:
    """About one file."""
    return _("This file is larger than %(limit)d MB. Choose a smaller one.", limit=LARGEST_DOCUMENT // 1_000_000)


def too_large_together() -> str:
    """About the last of several files."""
    return _("Your files together are too large. Choose a smaller one here.")


def not_readable() -> str:
    """About a file that is something else."""
    return _("This file cannot be read as a JPG, PNG or PDF. Take the photo again or choose another file.")


def two_files() -> str:
    """About a photo and a file for the same document."""
    return _("Two files were chosen. Choose only one: a new photo or a file.")


def detail_steps(context: Context) -> tuple[Step, ...]:
    """The screens with questions."""
    nations = countries()
    osl = context.dialects.osl
    # Where the user is, it may be the day before or after that of UTC.
    today, yesterday = _day(context.now_ms()), _day(context.now_ms() - DAY)
    types = {"ID_CARD": _("Identity card"), "PASSPORT": _("Passport"), "DRIVERS": _("Driving licence")}
    genders = {"M": _("Male"), "F": _("Female")}
    return (
        Step(
            "type",
            _("Which document will you use?"),
            _("It must be yours and valid today."),
            (
                Question(
                    "idType",
                    _("Type of document"),
                    "cards",
                    options={word: types.get(word, word) for word in osl.id_types},
                ),
            ),
            short=_("Type of document"),
        ),
        _name(),
        Step(
            "about",
            _("About you"),
            "",
            (
                Question("nationality", _("Nationality"), "select", options=nations),
                Question("residentialCountry", _("Country or region where you live"), "select", options=nations),
                Question(
                    "dob",
                    _("Date of birth"),
                    "date",
                    autocomplete="bday",
                    latest=today,
                    out_of_time=_("This day has not come yet. Enter the day on which you were born."),
                ),
                Question(
                    "gender", _("Gender"), "select", options={word: genders.get(word, word) for word in osl.genders}
                ),
                Question("phoneNumber", _("Phone number"), "tel", _("With country code: +852 5555 1234"), "tel"),
            ),
        ),
        Step(
            "document",
            _("Your document"),
            _("Copy this from the document that you will photograph."),
            (
                Question("idNumber", _("Document number"), hint=_("Exactly as printed on the document")),
                Question("idCountry", _("Issued by"), "select", options=nations),
                Question(
                    "idExpiry",
                    _("Valid until"),
                    "date",
                    earliest=yesterday,
                    out_of_time=_(
                        "By this date your document has expired. Check the date, or use a document that is still valid."
                    ),
                ),
            ),
        ),
        _address(),
        Step("questions", _("A few questions"), _("These belong to the check."), _choices(context)),
    )


def _without(text: str, category: str, instead: str = "") -> str:
    """`text` with every character of a Unicode category replaced."""
    return "".join(instead if unicodedata.category(letter) == category else letter for letter in text)


def _day(moment: int) -> str:
    """The day in UTC of a moment in unix ms."""
    return datetime.fromtimestamp(moment / 1000, UTC).date().isoformat()


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _name() -> Step:
    return Step(
        "name",
        _("Your name"),
        _("As it is written on your identity document."),
        (
            Question("firstName", _("First name"), autocomplete="given-name"),
            Question("middleName", _("Middle name"), autocomplete="additional-name"),
            Question("lastName", _("Last name"), autocomplete="family-name"),
        ),
        _("My name is not written in Latin letters"),
        (
            Question("firstNameEn", _("First name in Latin letters")),
            Question("middleNameEn", _("Middle name in Latin letters")),
            Question("lastNameEn", _("Last name in Latin letters")),
        ),
    )


def _address() -> Step:
    return Step(
        "address",
        _("Your address"),
        _("Where you live now."),
        (
            Question("street", _("Street"), autocomplete="address-line1"),
            Question("number", _("House number")),
            Question("district", _("District"), autocomplete="address-level3"),
            Question("city", _("Town or city"), autocomplete="address-level2"),
            Question("state", _("State or province"), autocomplete="address-level1"),
            Question("zip", _("Postcode"), autocomplete="postal-code"),
        ),
        _("My address does not fit into these boxes"),
        (Question("address", _("Whole address in one line"), autocomplete="street-address", longest=500),),
    )


def _choices(context: Context) -> tuple[Question, ...]:
    offered = context.dialects.choices
    asked = {
        "accountPurpose": (_("What will you use the account for?"), offered.account_purpose),
        "monthSpend": (_("How much do you expect to spend in a month?"), offered.month_spend),
        "sourceFunds": (_("Where does the money come from?"), offered.source_funds),
        "occupation": (_("What do you do for a living?"), offered.occupation),
    }
    words = choice_words()
    return tuple(
        Question(name, asked[name][0], "select", options={word: words.get(word, word) for word in asked[name][1]})
        for name in CHOICES
    )


def _file_steps() -> tuple[Step, ...]:
    still = (_("All four corners in view, nothing cut off"), _("Sharp, without glare: every letter can be read"))
    front = FileQuestion(
        "idFileFront", _("Front of your document"), (_("The page or side with your photo"), *still), "environment"
    )
    back = FileQuestion(
        "idFileBack", _("Back of your document"), (_("The side without your photo"), *still), "environment"
    )
    face = (
        _("Look straight into the camera"),
        _("Good light, nothing covering your face"),
        _("Only you in the picture"),
    )
    selfie = FileQuestion("selfie", _("Photo of you"), face, "user")
    return (
        Step("front", _("Front of your document"), file=front),
        Step("back", _("Back of your document"), file=back),
        Step("selfie", _("Photo of you"), file=selfie),
    )


def _back_is_asked(view: View) -> bool:
    """Unless the type of document is known not to need it."""
    there = any(document.kind == "idFileBack" for document in view.documents)
    return there or "idType" not in view.fields_present or "documents.idFileBack" in view.missing
