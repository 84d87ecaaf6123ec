"""A Flask application that does nothing: what one route over the same gunicorn costs by itself."""

from __future__ import annotations

from flask import Flask, request

app = Flask("bare")


@app.post("/callbacks/oslpay/<token>")
def receive(token: str) -> dict[str, str]:
    """Read the body and say that all is well."""
    del token
    request.get_data()
    return {"code": "00000", "msg": "success"}
