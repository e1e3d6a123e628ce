"""What an answer of Drift's looks like."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.wrappers import Response


def as_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, mimetype="application/json")


def error(status: int, type_: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """The shape of Drift's page on errors."""
    return as_json({"error": {"type": type_, "message": message}}, status, headers)


def errors(type_: str, message: str, param: str, status: int = 400) -> Response:
    """The shape of Drift's page on the list."""
    return as_json({"errors": [{"type": type_, "message": message, "param": param}]}, status)
