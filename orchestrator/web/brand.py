"""What makes the end user's page the merchant's: name, logo, whom to ask, and colours that stay easy to read."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from flask import Blueprint, Flask, Response
from flask.typing import ResponseReturnValue

from orchestrator.config import Config
from orchestrator.errors import NotFound
from orchestrator.web.auth import open_to

_READABLE = 4.5
"""The contrast that WCAG 2 asks of text (level AA)."""
_LIGHT, _DARK = ("#ffffff", "#f2f4f5"), ("#1a2328", "#10171b")
"""What accented text stands on, as in `static/upload.css`."""
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+?[0-9][0-9 ()./-]{4,30}")


@dataclass
class Brand:
    """The merchant, for the pages. `name` and `contact` are None where they are not set."""

    config: Config

    @property
    def name(self) -> str | None:
        """Who asks."""
        return self.config.merchant_name

    @property
    def contact(self) -> str | None:
        """Whom to ask."""
        return self.config.support_contact

    @property
    def contact_link(self) -> str | None:
        """Where a click on the contact leads, if it is an address of some kind."""
        contact = self.contact or ""
        if _EMAIL.fullmatch(contact):
            return f"mailto:{contact}"
        if _PHONE.fullmatch(contact):
            return f"tel:{re.sub(r'[^+0-9]', '', contact)}"
        return contact if re.match(r"https?://[^\s/]", contact) else None

    @cached_property
    def logo_version(self) -> str | None:
        """Changes with the logo, so that browsers may keep it."""
        logo = self.config.merchant_logo
        return hashlib.sha256(logo.content).hexdigest()[:12] if logo else None

    @property
    def keeps_documents_days(self) -> float:
        """How long after the end documents are kept; 0: until the merchant deletes them."""
        return self.config.retain_documents_days

    @property
    def accent(self) -> str | None:
        """The colour without its `#`."""
        return self.config.accent_color[1:] if self.config.accent_color else None


def wear(app: Flask, config: Config) -> None:
    """Give `app` the merchant's looks: `brand` in its templates, and the files that belong to it."""
    app.jinja_env.globals["brand"] = Brand(config)
    blueprint = Blueprint("brand", __name__, url_prefix="/brand")

    @blueprint.get("/logo")
    @open_to("anyone: the merchant's logo")
    def logo() -> ResponseReturnValue:
        if config.merchant_logo is None:
            raise NotFound("no logo is set")
        return _kept(Response(config.merchant_logo.content, content_type=config.merchant_logo.media_type))

    @blueprint.get("/colors.css")
    @open_to("anyone: the merchant's colours")
    def colors() -> ResponseReturnValue:
        if config.accent_color is None:
            raise NotFound("no accent colour is set")
        return _kept(Response(stylesheet(config.accent_color), content_type="text/css; charset=utf-8"))

    app.register_blueprint(blueprint)


def _kept(answer: Response) -> Response:
    """The address changes with the content."""
    answer.cache_control.max_age = 86_400
    answer.cache_control.public = True
    return answer


def stylesheet(accent: str) -> str:
    """The colours made from `accent` (`#rrggbb`), for light and dark screens."""
    link = readable(accent, _LIGHT, toward="#000000")
    shown = readable(accent, _DARK, toward="#ffffff")
    light, dark = f"{_buttons(accent)};--link:{link}", f"{_buttons(shown)};--link:{shown}"
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def readable(color: str, backgrounds: tuple[str, ...], *, toward: str) -> str:
    """`color`, moved toward black or white until it can be read on each of `backgrounds`."""
    steps = (mixed(color, toward, share / 20) for share in range(21))
    return next(found for found in steps if all(contrast(found, other) >= _READABLE for other in backgrounds))


def _buttons(accent: str) -> str:
    """A button, its text in black or white, and a button under the pointer, which differs from its text more."""
    text = max(("#ffffff", "#000000"), key=lambda ink: contrast(accent, ink))
    away = "#000000" if text == "#ffffff" else "#ffffff"
    return f"--accent:{accent};--on-accent:{text};--accent-hover:{mixed(accent, away, 0.2)}"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21, as WCAG 2 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(color: str, other: str, share: float) -> str:
    """`color` with this share (0 to 1) of `other`."""
    pairs = zip(_channels(color), _channels(other), strict=True)
    return "#" + "".join(f"{round(one + (two - one) * share):02x}" for one, two in pairs)


def _luminance(color: str) -> float:
    shares = [channel / 255 for channel in _channels(color)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
