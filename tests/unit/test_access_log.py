"""What gunicorn's access log is given."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.web.access_log import discreet, masked_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/u/3fP71Zx", "/u/..."),
        ("/u/3fP71Zx?done=saved", "/u/..."),
        ("/callbacks/oslpay/3fP71Zx", "/callbacks/oslpay/..."),
        ("/callbacks/oslpay/3fP71Zx/more", "/callbacks/oslpay/.../more"),
        ("/callbacks/oslpay", "/callbacks/oslpay"),
        ("/api/v1/onboardings?q=ana@example.com", "/api/v1/onboardings"),
        ("/status?q=ana@example.com&state=approved", "/status"),
        ("/api/v1/onboardings/onb_1/documents/selfie", "/api/v1/onboardings/onb_1/documents/selfie"),
        ("", ""),
    ],
)
def test_a_path_is_logged_without_what_it_gives_away(path: str, shown: str) -> None:
    assert masked_path(path) == shown


def test_no_credential_and_no_query_is_logged() -> None:
    logged: list[dict[str, Any]] = []
    environ = {
        "RAW_URI": "/u/secret?q=secret",
        "PATH_INFO": "/u/secret",
        "QUERY_STRING": "q=secret",
        "HTTP_REFERER": "https://x/u/secret",
        "HTTP_AUTHORIZATION": "Bearer secret",
        "HTTP_COOKIE": "orchestrator=secret",
        "REQUEST_METHOD": "GET",
    }

    discreet(lambda _response, _request, given, _time: logged.append(given))(None, None, environ, None)

    assert "secret" not in str(logged)
    assert logged[0]["REQUEST_METHOD"] == "GET"
    assert environ["RAW_URI"] == "/u/secret?q=secret", "the application's own is untouched"
