"""Users as a merchant signs them up, each with a document and files that nobody else has."""

from __future__ import annotations

import secrets
from io import BytesIO
from typing import Any

from PIL import Image

WITH_BACK = ("ID_CARD", "DRIVERS")


def signup_data(story: str, number: int, **profile: str) -> dict[str, Any]:
    """A whole signup of a user with a document of their own."""
    return {
        "merchantUserId": f"{story}-{number}",
        "email": f"{story}+{number}@example.com",
        "profile": {
            "firstName": "Ana",
            "lastName": "Lee",
            "idType": "PASSPORT",
            "idNumber": f"K{number:07d}",
            "idCountry": "HKG",
            "nationality": "HKG",
            "residentialCountry": "HKG",
            "accountPurpose": "Savings",
            "monthSpend": "Less than 1,000 USD",
            "sourceFunds": "Salary",
            "occupation": "Employed",
            "ip": "203.0.113.7",
            "deviceId": f"device-{number}",
            **profile,
        },
    }


def documents(id_type: str) -> dict[str, tuple[bytes, str]]:
    """Real files that nobody else has."""
    found = {"idFileFront": (_picture("JPEG"), "image/jpeg"), "selfie": (_picture("PNG"), "image/png")}
    if id_type in WITH_BACK:
        found["idFileBack"] = (b"%PDF-1.7 " + secrets.token_bytes(500), "application/pdf")
    return found


def _picture(form: str) -> bytes:
    stream = BytesIO()
    Image.frombytes("RGB", (16, 12), secrets.token_bytes(16 * 12 * 3)).save(stream, form)
    return stream.getvalue()
