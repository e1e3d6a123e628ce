"""The settings, and what JSON Schema can't check of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import re
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

import requests
from singer_sdk import typing as th

from tap_drift.list_pages import STATUS_IDS
from tap_drift.values import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHORTEST_TOKEN = 8
"""So many characters a token has at the least."""

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
            "Conversations that were last updated before this time are not read. ISO 8601, such as "
            "2024-01-01 or 2024-01-01T09:00:00+02:00; UTC where it names no time zone. Default: "
            "everything is read."
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
        default=300,
        title="Lookback",
        description=(
            "How many seconds before the bookmark an incremental run reads again, for "
            "conversations that Drift shows late."
        ),
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
            "How many requests may be under way at the same time, 1 to 32: pages of the list where "
            "they can be foreseen, and what belongs to conversations."
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
        description="How many seconds to wait for a connection, and then for a whole answer.",
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
    th.Property(  # the SDK has it from 0.55 on
        "emit_activate_version_messages",
        th.BooleanType,
        default=False,
        title="Emit `ACTIVATE_VERSION` messages",
        description=(
            "Tell the target, when a stream was read FULL_TABLE and whole, that rows which did not "
            "come again are deleted. Never with start_date, statuses or batch_config."
        ),
    ),
).to_dict()


def as_meant(config: dict[str, Any]) -> dict[str, Any]:
    """Take settings as they were meant.

    Args:
        config: The settings as they were handed over.

    Returns:
        The settings: what is null is not set, 25.0 is 25 where an integer is due, and a start date
        is a time in UTC. What can't be read is left as it is.
    """
    config = {name: value for name, value in config.items() if value is not None}
    for name, declared in SCHEMA["properties"].items():
        value = config.get(name)
        if "integer" in declared["type"] and isinstance(value, float) and value.is_integer():
            config[name] = int(value)
    start_date = config.get("start_date")
    if isinstance(start_date, str):
        with contextlib.suppress(ValueError):  # `mistakes` says so
            config["start_date"] = rfc3339(dt.datetime.fromisoformat(start_date).isoformat())
    return config


def is_token(token: Any) -> TypeGuard[str]:
    """Tell whether something may be a token; a few letters would be masked in every word."""
    return isinstance(token, str) and bool(re.fullmatch(f"[!-~]{{{SHORTEST_TOKEN},}}", token))


def mistakes(
    config: Mapping[str, Any], found: Iterable[str] = (), variables: Mapping[str, str] | None = None
) -> list[str]:
    """Check what JSON Schema can't.

    Args:
        config: The settings.
        found: What JSON Schema says.
        variables: The variables that settings came from.

    Returns:
        A line for each mistake, with the name of the variable, if it came from one.
    """
    said_below = ("'access_token' is a required", "config['start_date']")
    errors = [error for error in found if not any(part in error for part in said_below)]
    errors = list(dict.fromkeys(_plainly(error, config) for error in errors))
    errors += _mistakes(config)
    for name, variable in (variables or {}).items():
        errors = [
            f"{error.rstrip('.')} (the variable {variable})."
            if re.search(rf"\b{name}\b", error)
            else error
            for error in errors
        ]
    return errors


def _plainly(error: str, config: Mapping[str, Any]) -> str:
    """Say without the words of JSON Schema what a setting of the tap's own has to be."""
    (name,) = re.findall(r" in config\['(\w+)'\]", error)[-1:] or ("",)
    declared = SCHEMA["properties"].get(name)
    if not declared or name == "access_token":  # whose value is not to be shown
        return error
    least, most = declared.get("minimum"), declared.get("maximum")
    numbers = f"from {least} to {most}" if most else f"of at least {least}"
    kinds = {
        "integer": f"a whole number {numbers}",
        "boolean": "true or false",
        "array": f"a list with some of {', '.join(STATUS_IDS)}",
        "string": "text",
    }
    return f"{name} has to be {kinds[declared['type'][0]]}, and not {config[name]!r}."


def warnings(config: Mapping[str, Any]) -> list[str]:
    """Say what is odd about settings that are right.

    Args:
        config: The settings, as they are meant.

    Returns:
        A line for each.
    """
    start_date = config.get("start_date")
    if not _is_time(start_date) or start_date <= rfc3339(dt.datetime.now(dt.UTC).isoformat()):
        return []
    return [f"start_date {start_date} lies in the future, so no conversation is read."]


def _mistakes(config: Mapping[str, Any]) -> list[str]:
    errors = []
    token, start_date, user_agent, api_url = (
        config.get(name) for name in ("access_token", "start_date", "user_agent", "api_url")
    )
    if token is None:
        errors.append(
            "access_token is missing. Set it in a file (--config FILE), or in the variable "
            "TAP_DRIFT_ACCESS_TOKEN (and --config=ENV)."
        )
    if isinstance(token, str) and not is_token(token):
        errors.append(
            "access_token is empty, or has a space, a line break or another character that no "
            f"token has, or is shorter than {SHORTEST_TOKEN}. Was it pasted whole?"
        )
    if start_date is not None and not _is_time(start_date):
        errors.append(
            f"start_date {start_date!r} is no time. Write it like 2024-01-01, or "
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


def _is_time(text: Any) -> TypeGuard[str]:
    try:
        rfc3339(dt.datetime.fromisoformat(text).isoformat())
    except (TypeError, ValueError):
        return False
    return True


def _is_safe(api_url: str) -> bool:
    try:
        requests.PreparedRequest().prepare_url(api_url, None)
        url = urlsplit(api_url)
        host = url.hostname
    except ValueError:
        return False
    if any(letter.isspace() for letter in api_url):  # which older versions of urllib3 let pass
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
