"""The tap: its settings, its list of streams, and how a run ends."""

from __future__ import annotations

import copy
import datetime as dt
import ipaddress
import os
import re
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import click
import msgspec
import requests
from singer_sdk import Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigValidationError, SingerSDKError
from singer_sdk.singerlib import StateMessage
from singer_sdk.tap_base import CliTestOptionValue

from tap_drift import streams
from tap_drift.client import DriftSession
from tap_drift.compat import override
from tap_drift.newest_first import STATUS_IDS
from tap_drift.output import SIGNALLED, Writer, mask
from tap_drift.values import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import IO, NoReturn

    from tap_drift.client import DriftStream

STREAMS: tuple[type[DriftStream], ...] = (
    streams.ConversationsStream,
    streams.ConversationDetailsStream,
    streams.MessagesStream,
    streams.ContactsStream,
    streams.UsersStream,
    streams.TeamsStream,
    streams.AccountsStream,
    streams.PlaybooksStream,
)

SECONDS_TO_END = 5.0
"""How long a run that is told to end may take, if nobody reads its last lines."""


def _mistake(line: str) -> ConfigValidationError:
    return ConfigValidationError(line, errors=[line])


def _fail(error: SingerSDKError) -> NoReturn:
    """Say what a user can mend in a line for each mistake, without a traceback."""
    for line in getattr(error, "errors", None) or [error]:
        TapDrift.logger.error(line)
    sys.exit(1)


class TapDrift(Tap):
    """Singer tap for Drift: conversations and all that belongs to them."""

    name = "tap-drift"
    _told_to_end = False
    message_writer_class = Writer

    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
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
                "How many requests may be under way at the same time, 1 to 32, for messages, "
                "contacts and conversation details."
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

    def __init__(self, *args: Any, parse_env_config: bool = False, **kwargs: Any) -> None:
        """Create the tap, as every tap is created.

        Raises:
            ConfigValidationError: A setting is missing or wrong.
        """
        try:
            _ = parse_env_config and self._env_var_config  # where the SDK would let it be raised
        except ValueError as error:
            line = f"A TAP_DRIFT_ variable is not what its setting asks for: {error}"
            raise _mistake(line) from None
        super().__init__(*args, parse_env_config=parse_env_config, **kwargs)

    # Private in the SDK, and the only place where settings can be checked beyond JSON Schema.
    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        errors: list[str] = []
        # What is set to null is not set, and has its default.
        self._config = {name: value for name, value in self._config.items() if value is not None}
        try:
            super()._validate_config(raise_errors=True)
        except ConfigValidationError as error:
            errors = error.errors
        token = self._config.get("access_token")
        if token:
            errors = [error.replace(repr(token), "***") for error in errors]
            mask(str(token))
        errors += _setting_errors(self._config)
        if errors and raise_errors:
            msg = "Some settings are wrong."
            raise ConfigValidationError(msg, errors=errors, schema=self.config_jsonschema)
        return errors

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the state of an earlier run, if it has the shape of one."""
        try:
            bookmarks = msgspec.convert(state, _State).bookmarks or {}
        except msgspec.ValidationError as error:
            line = f'The state is damaged ({error}). It looks like {{"bookmarks": {{...}}}}.'
            raise _mistake(line) from None
        # The SDK's own notes on runs that did not finish: no stream of this tap needs them.
        notes = {"progress_markers", "partitions"}
        own = {
            name: {k: v for k, v in of.items() if k not in notes} for name, of in bookmarks.items()
        }
        super().load_state({"bookmarks": own})

    @override
    def discover_streams(self) -> Sequence[DriftStream]:
        session = DriftSession(
            connections=self.config["concurrency"],
            requests_per_minute=self.config.get("requests_per_minute"),
        )
        return [stream(self, session) for stream in STREAMS]

    # How a run ends

    @classmethod
    @override
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: Any = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
    ) -> None:
        """Run the tap from the command line.

        The SDK's own ends in whatever line was written last, and with exit code 0 though streams
        have failed.
        """
        super(Tap, cls).invoke(about=about, about_format=about_format)
        cls.print_version(print_fn=cls.logger.info)
        try:
            tap = cls(
                config=config.config,
                state=_read_json(state, "--state", dict),
                catalog=_read_json(catalog, "--catalog", _Catalog),
                parse_env_config=config.parse_env,
            )
        except SingerSDKError as error:
            _fail(error)
        writer = tap.message_writer
        assert isinstance(writer, Writer)  # noqa: S101  (for the type checker: message_writer_class)
        writer.last_state = StateMessage(value=copy.deepcopy(tap.state))
        try:
            tap.sync_all()
        except SystemExit as end:
            if end.code in {SIGNALLED + signal.SIGINT, SIGNALLED + signal.SIGTERM}:
                cls.logger.warning("The run was told to end. The next goes on from the last STATE.")
            raise
        except SingerSDKError as error:
            _fail(error)
        finally:
            writer.write_last_state()
        if failed := [name for name, stream in tap.streams.items() if stream.failed]:  # type: ignore[attr-defined]
            cls.logger.error(
                "Not read to the end: %s. The next run goes on from the last STATE.",
                ", ".join(failed),
            )
            sys.exit(1)

    # Private in the SDK, whose own writes STATE into the middle of a line, and exits with 0.
    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        if self._told_to_end:  # another SystemExit would break what the first one unwinds
            return
        self._told_to_end = True
        exit_code = SIGNALLED + signum
        deadline = threading.Timer(SECONDS_TO_END, os._exit, (exit_code,))
        deadline.daemon = True
        deadline.start()
        writer = getattr(self, "message_writer", None)
        if isinstance(writer, Writer):
            writer.end_run(exit_code)
        else:
            sys.exit(exit_code)

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        """Read the files that `--config` names; say so in a line if that fails."""
        try:
            return super().cb_config(ctx, param, value)
        except (OSError, ValueError, TypeError) as error:
            msg = f"--config can't be read as a file of JSON settings: {error}"
            raise click.ClickException(msg) from None

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """Try the connection, with the streams that are selected: others need other scopes."""
        try:
            if value != CliTestOptionValue.All.value:
                super().cb_test(ctx, param, value)
                return
            config = ctx.params["config"]
            tap = cls(config=config.config, parse_env_config=config.parse_env)
            tap.run_sync_dry_run(streams=[one for one in tap.streams.values() if one.selected])
        except SingerSDKError as error:
            _fail(error)
        if any(stream.failed for stream in tap.streams.values()):  # type: ignore[attr-defined]
            ctx.exit(1)
        cls.logger.info("The settings and the token work.")
        ctx.exit()


class _State(msgspec.Struct):
    bookmarks: dict[str, dict[str, Any]] | None = None


class _CatalogEntry(msgspec.Struct):
    tap_stream_id: str
    schema: dict[str, Any] = {}
    metadata: list[dict[str, Any]] = []


class _Catalog(msgspec.Struct):
    streams: list[_CatalogEntry]


def _read_json(file: IO[str] | None, option: str, shape: Any) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        document: dict[str, Any] = msgspec.json.decode(file.read())
        msgspec.convert(document, shape)
    except (ValueError, OSError) as error:
        line = f"{option} is no JSON of the shape that it has to have: {error}"
        raise _mistake(line) from None
    return document


def _setting_errors(config: dict[str, Any]) -> list[str]:
    """Check what JSON Schema can't."""
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
