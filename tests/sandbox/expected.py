"""What the tap has to make of what Drift sends: written apart from the tap, on purpose."""

from __future__ import annotations

import datetime as dt
from typing import Any


def as_time(milliseconds: int) -> str:
    """Milliseconds since 1970, as they leave the tap."""
    seconds, thousandths = divmod(milliseconds, 1000)
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{thousandths:03d}Z"
    )


def as_record(row: dict[str, Any]) -> dict[str, Any]:
    """A row, as it leaves the tap."""
    return {
        name: as_time(value) if name in {"createdAt", "updatedAt"} else value
        for name, value in row.items()
    }
