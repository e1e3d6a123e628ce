"""A run from the command line: how it begins, and how it ends."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import click
from singer_sdk import Tap
from singer_sdk.cli import plugin_cli
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.singerlib import StateMessage
from singer_sdk.tap_base import CliTestOptionValue

from tap_drift import given, signals
from tap_drift.compat import override
from tap_drift.output import GOES_ON, Writer

if TYPE_CHECKING:
    from types import FrameType
    from typing import IO, NoReturn

    from tap_drift.stream import DriftStream

SECONDS_TO_END = 5.0
"""How long a run that is told to end may take, if nobody reads its last lines."""


class RunningTap(Tap):
    """A tap whose runs end in whole lines, a STATE and an exit code that says what happened."""

    message_writer_class = Writer
    _told_to_end = False

    @classmethod
    def say(cls, lines: list[str]) -> None:
        """Warn of what a user handed over."""
        for line in lines:
            cls.logger.warning(line)

    @classmethod
    def fail(cls, error: SingerSDKError) -> NoReturn:
        """Say what a user can mend in a line for each mistake, without a traceback."""
        for line in getattr(error, "errors", None) or [error]:
            cls.logger.error(line)
        sys.exit(1)

    # The command line

    @plugin_cli
    def cli(cls) -> click.Command:  # noqa: N805
        """Handle the command line."""
        wrong = given.mend_log_level(cls._env_var_prefix)
        command: click.Command = super().cli  # which sets logging up
        cls.say(wrong)
        return command

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        """Have files opened as bytes: nobody but their content knows their encoding."""
        command = super().get_singer_command()
        for option in command.params:
            if option.name in {"catalog", "state"}:
                option.type = click.File("rb")
        return command

    # How a run ends

    @override
    def run_discovery(self) -> str:
        """Write the catalog; leave without a traceback if nobody takes it."""
        text = self.catalog_json_text
        assert isinstance(self.message_writer, Writer)  # noqa: S101  (for the type checker)
        self.message_writer.write_document(text)
        return text

    @classmethod
    @override
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: Any = None,
        state: IO[bytes] | None = None,
        catalog: IO[bytes] | None = None,
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
                state=given.file(state, "--state", dict),
                catalog=given.file(catalog, "--catalog", given.Catalog),
                parse_env_config=config.parse_env,
            )
        except SingerSDKError as error:
            cls.fail(error)
        writer = tap.message_writer
        assert isinstance(writer, Writer)  # noqa: S101  (for the type checker: message_writer_class)
        writer.last_state = StateMessage(value=copy.deepcopy(tap.state))
        try:
            if not any(stream.selected for stream in tap.streams.values()):
                cls.logger.warning("No stream is selected, so nothing is read.")
            tap.sync_all()
        except SystemExit as end:
            if end.code in {signals.SIGNALLED + number for number in signals.TO_END}:
                cls.logger.warning("The run was told to end. %s", GOES_ON)
            raise
        except SingerSDKError as error:
            cls.fail(error)
        finally:
            writer.write_last_state()
        tap.end_in_error_if_due()

    def end_in_error_if_due(self) -> None:
        """Say what could not be read, if anything; the exit code says so too."""
        streams: list[DriftStream] = list(self.streams.values())  # type: ignore[arg-type]
        if failed := [stream.name for stream in streams if stream.failed]:
            self.logger.error("Not read to the end: %s. %s", ", ".join(failed), GOES_ON)
        incomplete = [stream.name for stream in streams if stream.is_incomplete]
        if incomplete := [name for name in incomplete if name not in failed]:
            self.logger.error("Read, but for what the warnings name: %s.", ", ".join(incomplete))
        if failed or incomplete:
            sys.exit(1)

    # Private in the SDK, which does not know SIGHUP.
    @override
    def _setup_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signals.handle(self._handle_termination)

    # Private in the SDK, whose own writes STATE into the middle of a line, and exits with 0.
    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        if self._told_to_end:  # another SystemExit would break what the first one unwinds
            return
        self._told_to_end = True
        exit_code = signals.SIGNALLED + signum
        deadline = threading.Timer(SECONDS_TO_END, os._exit, (exit_code,))
        deadline.daemon = True
        with contextlib.suppress(RuntimeError):  # there may be no thread to be had
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
            found = super().cb_config(ctx, param, tuple(one for one in value if one == "ENV"))
            found.config |= given.settings(one for one in value if one != "ENV")
        except (OSError, ValueError) as error:
            msg = f"--config can't be read as a file of JSON settings: {error}"
            raise click.ClickException(msg) from None
        return found

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
            cls.fail(error)
        assert isinstance(tap.message_writer, Writer)  # noqa: S101  (for the type checker)
        tap.message_writer.flush()
        if any(stream.failed for stream in tap.streams.values()):  # type: ignore[attr-defined]
            ctx.exit(1)
        cls.logger.info("The settings and the token work.")
        ctx.exit()
