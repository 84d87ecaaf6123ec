"""In which language the end user's page speaks. A language is a catalog in `translations`, compiled beside it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import cast

import flask_babel
import pycountry
from babel import Locale
from flask import Flask, Response, current_app, request
from flask_babel import Babel, force_locale, get_locale

FOLDER = Path(__file__).parent.parent / "translations"
PAGE = "/u/"
_FIRST = "en"
_COOKIE = "lang"
_YEAR_SECONDS = 365 * 86_400


def speak(app: Flask) -> None:
    """Let `app` speak every language that there is; all but the end user's page speaks English."""
    Babel(app, default_locale=_FIRST, default_translation_directories=str(FOLDER), locale_selector=_choose)
    codes = [_FIRST, *sorted(path.parent.parent.name for path in FOLDER.glob("*/LC_MESSAGES/messages.mo"))]
    with app.app_context():
        app.extensions["languages"] = {code: _own_name(code) for code in codes}
    app.after_request(_remember)
    app.jinja_env.globals.update(languages=languages, language_tag=language_tag)


def gettext(text: str, **values: object) -> str:
    """`text` in the language of this request's page, with `values` in its placeholders."""
    return str(flask_babel.gettext(text, **values))


def languages() -> Mapping[str, str]:
    """The tag of each language (`zh-Hant-TW`) and its name in itself."""
    return {code.replace("_", "-"): name for code, name in _known().items()}


def language_tag() -> str:
    """The tag of the language of this request's page."""
    return str(get_locale() or _FIRST).replace("_", "-")


def countries() -> Mapping[str, str]:
    """ISO 3166-1 alpha-3 codes and their names in the language of the page, in its order."""
    return _countries(str(get_locale() or _FIRST))


def _own_name(code: str) -> str:
    with force_locale(code):
        # Translators: the name of your language in your language.
        return gettext("English")


def _known() -> dict[str, str]:
    return cast(dict[str, str], current_app.extensions["languages"])


def _choose() -> str:
    """By hand, as once chosen by hand, or what the browser asks for, in this order."""
    if not request.path.startswith(PAGE):
        return _FIRST
    wished = (request.args.get("lang", ""), request.cookies.get(_COOKIE, ""), *request.accept_languages.values())
    return next((code for tag in wished if (code := _matching(tag))), _FIRST)


def _matching(tag: str) -> str | None:
    """The language that this tag means, else one that its readers can read: of the same language."""
    wished = tag.replace("-", "_").casefold()
    same = [code for code in _known() if code.casefold() == wished]
    related = [code for code in _known() if code.split("_")[0].casefold() == wished.split("_")[0]]
    return next(iter(same + related), None)


def _remember(answer: Response) -> Response:
    if request.path.startswith(PAGE) and (code := _matching(request.args.get("lang", ""))):
        answer.set_cookie(
            _COOKIE,
            code.replace("_", "-"),
            max_age=_YEAR_SECONDS,
            secure=request.is_secure,
            httponly=True,
            samesite="Lax",
            path="/u",
        )
    return answer


@cache
def _countries(code: str) -> Mapping[str, str]:
    known = Locale.parse(code).territories
    short = {"HKG": gettext("Hong Kong"), "MAC": gettext("Macao")}
    names = {
        country.alpha_3: short.get(country.alpha_3) or known.get(country.alpha_2) or country.name
        for country in pycountry.countries
    }
    return dict(sorted(names.items(), key=lambda pair: unicodedata.normalize("NFKD", pair[1]).casefold()))
