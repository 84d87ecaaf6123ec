"""OSL Pay's webhooks about the onboardings that `stored` made, signed and as bytes ready to be sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator

from benchmarks import sending, stored
from benchmarks.processes import APP_ID, Settings
from orchestrator.signatures import osl_sign


def passes(settings: Settings, numbers: Iterable[int], port: int | None = None) -> Iterator[bytes]:
    """PASS for each of these onboardings, each with a timestamp and so a signature of its own.

    `port`: where to send it, if not to the web processes of these settings.
    """
    began = int(time.time() * 1000) - 60_000
    for place, number in enumerate(numbers):
        timestamp = str(began + place)
        headers = {
            "appId": APP_ID,
            "timestamp": timestamp,
            "signature": osl_sign(settings.osl_key, APP_ID, timestamp),
        }
        data = {"merchantUserId": stored.name(number), "userId": stored.user_id(number), "kycStatus": "PASS"}
        body = {"type": "kyc_status_change", "data": {**data, "kycShareFailedReason": ""}}
        path = f"/callbacks/oslpay/{stored.token(number)}"
        yield sending.post(port or settings.port, path, headers, json.dumps(body).encode())
