"""A run from the command line: how it begins, and how it ends."""

from __future__ import annotations

import contextlib
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
from tap_drift.progress import COLUMNS, failures, table
from tap_drift.trial import try_out

if TYPE_CHECKING:
    from types import FrameType
    from typing import IO, NoReturn

    from tap_drift.stream import DriftStream

TEST_HELP = (
    "Ask once for each selected stream, and say what may be read. --test=schema writes the SCHEMA "
    "messages alone."
)

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
            if option.name == "test":  # with the catalog, which a callback need not have yet
                option.callback, option.expose_value = None, True
                option.help = TEST_HELP
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
        test: str = CliTestOptionValue.Disabled.value,
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
            if test != CliTestOptionValue.Disabled.value:
                tap.test(test)
                return
        except SingerSDKError as error:
            cls.fail(error)
        writer = tap.message_writer
        assert isinstance(writer, Writer)  # noqa: S101  (for the type checker: message_writer_class)
        writer.remember(StateMessage(value=tap.state))
        streams: list[DriftStream] = []
        try:
            try:
                streams += tap.selected_streams()
                if not streams:
                    cls.logger.warning("No stream is selected, so nothing is read.")
                tap.sync_all()
            finally:
                writer.write_last_state()
                cls.tell_how_it_ended(streams)
        except SystemExit as end:
            if end.code in {signals.SIGNALLED + number for number in signals.TO_END}:
                cls.logger.warning("The run was told to end. %s", GOES_ON)
            raise
        except SingerSDKError as error:
            cls.fail(error)
        tap.end_in_error_if_due(streams)

    def test(self, what: str) -> None:
        """Try what the token may read, of what is selected: others need other scopes."""
        if what == CliTestOptionValue.Schema.value:
            self.write_schemas()
            return
        streams = self.selected_streams()
        if not streams:
            self.logger.error("Nothing was tested, since no stream is selected.")
            sys.exit(1)
        lines, causes = try_out(streams)
        if scopes := self.owner.scopes:  # type: ignore[attr-defined]
            lines += ["", f"Drift lists these scopes of the token: {', '.join(scopes)}."]
        assert isinstance(self.message_writer, Writer)  # noqa: S101  (for the type checker)
        self.message_writer.write_document("\n".join(lines))
        for name, cause in causes.items():
            self.logger.error("%s: %s", name, cause)
        if causes:
            self.logger.error("Can't be read: %s", failures(causes))
            sys.exit(1)
        self.logger.info("The settings and the token work.")

    def selected_streams(self) -> list[DriftStream]:
        """Give the streams that are selected, in the order in which they are read."""
        return [stream for stream in self.streams.values() if stream.selected]  # type: ignore[misc]

    @classmethod
    def tell_how_it_ended(cls, streams: list[DriftStream]) -> None:
        """Tell in a table what was read."""
        rows = [
            (
                stream.name,
                stream.progress.records,
                stream.progress.requests,
                round(stream.progress.seconds),
                stream.ending,
                stream.owed,
            )
            for stream in streams
        ]
        for line in table(COLUMNS, rows) if rows else ():
            cls.logger.info(line)

    def end_in_error_if_due(self, streams: list[DriftStream]) -> None:
        """Say what could not be read, if anything, and why; the exit code says so too."""
        causes = {stream.name: stream.cause for stream in streams if stream.failed}
        incomplete = [s.name for s in streams if s.is_incomplete and not s.failed]
        if incomplete:
            self.logger.error("Read, but for what the warnings name: %s.", ", ".join(incomplete))
        if causes:
            goes_on = f" {GOES_ON}" if any(stream.can_go_on for stream in streams) else ""
            self.logger.error("Not read to the end: %s%s", failures(causes), goes_on)
        if causes or incomplete:
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
            is_usage = isinstance(error, OSError)  # as with the other files that are not there
            raise (click.UsageError if is_usage else click.ClickException)(msg) from None
        return found
