"""The tap: its settings, its list of streams, and how a run ends."""

from __future__ import annotations

import copy
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click
import msgspec
from singer_sdk import Tap
from singer_sdk.exceptions import ConfigValidationError, SingerSDKError
from singer_sdk.singerlib import StateMessage
from singer_sdk.tap_base import CliTestOptionValue

from tap_drift import settings, streams
from tap_drift.compat import override
from tap_drift.drift import Drift
from tap_drift.output import SIGNALLED, Writer, mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import IO, NoReturn

    from tap_drift.stream import DriftStream

STREAMS: tuple[type[DriftStream], ...] = (
    streams.ConversationsStream,
    streams.ConversationDetailsStream,
    streams.MessagesStream,
    streams.ContactsStream,
    streams.UsersStream,
    streams.TeamsStream,
    streams.AccountsStream,
    streams.PlaybooksStream,
    streams.LandingPagesStream,
    streams.ContactAttributesStream,
    streams.ConversationStatsStream,
    streams.BookedMeetingsStream,
    streams.ConversationMetricsStream,
    streams.TranscriptsStream,
    streams.AttachmentsStream,
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

    config_jsonschema = settings.SCHEMA

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
        errors += settings.mistakes(self._config)
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
        drift = Drift(
            token=str(self.config.get("access_token") or ""),
            request_timeout=int(self.config["request_timeout"]),
            max_retries=int(self.config["max_retries"]),
            connections=int(self.config["concurrency"]),
            requests_per_minute=self.config.get("requests_per_minute"),
        )
        return [stream(self, drift) for stream in STREAMS]

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
        tap.end_in_error_if_due()

    def end_in_error_if_due(self) -> None:
        """Say what could not be read, if anything; the exit code says so too."""
        streams: list[DriftStream] = list(self.streams.values())  # type: ignore[arg-type]
        if failed := [stream.name for stream in streams if stream.failed]:
            self.logger.error(
                "Not read to the end: %s. The next run goes on from the last STATE.",
                ", ".join(failed),
            )
        incomplete = [stream.name for stream in streams if stream.is_incomplete]
        if incomplete := [name for name in incomplete if name not in failed]:
            self.logger.error("Read, but for what the warnings name: %s.", ", ".join(incomplete))
        if failed or incomplete:
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
