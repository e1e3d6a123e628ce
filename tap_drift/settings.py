"""The settings, and what JSON Schema can't check of them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

import requests
from singer_sdk import typing as th

from tap_drift.list_pages import STATUS_IDS
from tap_drift.values import rfc3339

SCHEMA: dict[str, Any] = th.PropertiesList(
    th.Property(
        "access_token",
        th.StringType,
        required=True,
        secret=True,
        title="Access token",
        description="The OAuth access token of your app on dev.drift.com.",
    ),
    th.Property(
        "start_date",
        th.DateTimeType,
        title="Start date",
        description=(
            "Conversations that were last updated before this time are not read. ISO 8601 "
            "with a time zone, such as 2024-01-01T00:00:00Z. Default: everything is read."
        ),
    ),
    th.Property(
        "statuses",
        th.ArrayType(th.StringType(allowed_values=list(STATUS_IDS))),
        title="Statuses",
        description=(
            "Read only conversations that have one of these statuses: open, closed, pending. "
            "Default: every status, also those that Drift has no filter for."
        ),
    ),
    th.Property(
        "lookback_seconds",
        th.IntegerType(minimum=0),
        default=0,
        title="Lookback",
        description="How many seconds before the bookmark an incremental run reads again.",
    ),
    th.Property(
        "page_size",
        th.IntegerType(minimum=1, maximum=50),
        default=50,
        title="Page size",
        description=(
            "How many conversations are asked for at a time, 1 to 50. The tap lowers it by "
            "itself while Drift is too slow to answer."
        ),
    ),
    th.Property(
        "concurrency",
        th.IntegerType(minimum=1, maximum=32),
        default=8,
        title="Concurrency",
        description=(
            "How many requests may be under way at the same time, 1 to 32, for what belongs to "
            "conversations: details, messages, contacts, transcripts, attachments."
        ),
    ),
    th.Property(
        "requests_per_minute",
        th.IntegerType(minimum=1),
        title="Requests per minute",
        description="How many requests are made in a minute at the most. Default: no limit.",
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1, maximum=86_400),
        default=60,
        title="Request timeout",
        description="How many seconds to wait for Drift to connect, and to answer.",
    ),
    th.Property(
        "max_retries",
        th.IntegerType(minimum=0, maximum=20),
        default=5,
        title="Retries",
        description=(
            "How often a request is tried again, 0 to 20, when Drift is busy, fails, or can't "
            "be reached."
        ),
    ),
    th.Property(
        "max_attachment_bytes",
        th.IntegerType(minimum=1),
        default=10_000_000,
        title="Largest attachment",
        description=(
            "How many bytes a file may have in attachments; a larger one keeps its row, without "
            "its content. Up to `concurrency` files of that size are held in memory."
        ),
    ),
    th.Property(
        "user_agent",
        th.StringType,
        default="tap-drift",
        title="User agent",
        description="What the tap calls itself in its requests.",
    ),
    th.Property(
        "api_url",
        th.StringType,
        default="https://driftapi.com",
        title="API URL",
        description="Where Drift's API is. https, except for this machine itself.",
    ),
).to_dict()


def mistakes(config: dict[str, Any]) -> list[str]:
    """Check what JSON Schema can't.

    Args:
        config: The settings.

    Returns:
        A line for each mistake.
    """
    errors = []
    token, start_date, user_agent, api_url = (
        config.get(name) for name in ("access_token", "start_date", "user_agent", "api_url")
    )
    if isinstance(token, str) and not re.fullmatch("[!-~]+", token):
        errors.append(
            "access_token is empty, or has a space, a line break or another character that no "
            "token has. Was it pasted whole?"
        )
    if isinstance(start_date, str):
        try:
            rfc3339(start_date)
            has_zone = dt.datetime.fromisoformat(start_date).tzinfo is not None
        except ValueError:
            has_zone = False
        if not has_zone:
            errors.append(
                f"start_date {start_date!r} is no time with a time zone. Write it like "
                "2024-01-01T00:00:00Z."
            )
    if isinstance(user_agent, str) and not re.fullmatch("[!-~]([ -~]*[!-~])?", user_agent):
        errors.append(f"user_agent {user_agent!r} is empty, or has what no HTTP header may have.")
    batches = config.get("batch_config")
    size = batches.get("batch_size") if isinstance(batches, dict) else None
    if isinstance(size, int) and size < 1:
        errors.append(f"batch_config.batch_size {size} is less than 1.")
    if isinstance(api_url, str) and not _is_safe(api_url):
        errors.append(
            f"api_url {api_url!r} is not safe for the token: it has to begin with https://, "
            "except on this machine itself (http://127.0.0.1:8080)."
        )
    return errors


def _is_safe(api_url: str) -> bool:
    try:
        requests.PreparedRequest().prepare_url(api_url, None)
        url = urlsplit(api_url)
        host = url.hostname
    except ValueError:
        return False
    if not host or url.query or url.fragment or url.username:
        return False
    if url.scheme == "https":
        return True
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return url.scheme == "http" and loopback
