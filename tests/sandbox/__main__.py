"""`python -m tests.sandbox COMMAND...`: run a command with a Drift account and a PostgreSQL."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil
from rich.console import Console

from tests.sandbox.lifelike import LifelikeAccount
from tests.sandbox.listing import FORMS
from tests.sandbox.postgres import client, postgres
from tests.sandbox.report import report
from tests.sandbox.server import TOKEN, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PROJECT = Path(__file__).parents[2]
ACCOUNT = "lifelike.json"
SECONDS_TO_END = 10


def main() -> int:
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    signal.signal(signal.SIGTERM, _end)
    if arguments.fresh or not (folder / ACCOUNT).exists():
        _forget(folder)
    (folder / "output").mkdir(parents=True, exist_ok=True)
    account = _account(folder / ACCOUNT, arguments.conversations)

    with (
        Sandbox(
            account, form=arguments.list, cursor=arguments.cursor, clock=account.clock
        ) as drift,
        postgres(folder / "postgres") as url,
    ):
        settings = {
            "TAP_DRIFT_API_URL": drift.url,
            "TAP_DRIFT_ACCESS_TOKEN": TOKEN,
            "TARGET_POSTGRES_SQLALCHEMY_URL": url.replace("postgresql://", "postgresql+psycopg://"),
            "TARGET_JSONL_DESTINATION_PATH": str(folder / "output"),
            # Meltano's memory of an account that is started over has to be started over with it.
            "MELTANO_DATABASE_URI": f"sqlite:///{folder / 'meltano.db'}",
            "MELTANO_ENVIRONMENT": "sandbox",
        }
        try:
            if not arguments.command:
                _serve(settings)
            quiet = not arguments.verbose and arguments.command[:2] == ["meltano", "run"]
            log = folder / "meltano.log" if quiet else None
            if log:
                shown = log.relative_to(PROJECT) if log.is_relative_to(PROJECT) else log
                print(f"sandbox: a Drift account with {len(account.conversations):,} conversations")
                print(f"sandbox: {' '.join(arguments.command)} (its log: {shown})", flush=True)
            code = _run(arguments.command, os.environ | client(url) | settings, log)
        finally:
            # Who has seen nothing of it need not miss what changed; and what was broken off before
            # is begun anew, since PostgreSQL and Meltano can't go on with halves of their files.
            if drift.requests:
                account.save(folder / ACCOUNT)
        report(drift, url, folder / "output", arguments.command)
        return code


def _forget(folder: Path) -> None:
    """Remove what belongs to an account that is no more; nothing else, whatever folder it is."""
    for name in ("postgres", "output"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (ACCOUNT, "meltano.db", "meltano.log"):
        (folder / name).unlink(missing_ok=True)


def _account(saved: Path, conversations: int | None) -> LifelikeAccount:
    if not saved.exists():
        return LifelikeAccount(conversations or 1000)
    if conversations:
        print("sandbox: --conversations makes a new account only together with --fresh.")
    account = LifelikeAccount.load(saved)
    account.move_on()
    return account


def _serve(settings: dict[str, str]) -> NoReturn:
    print("# A Drift account and a PostgreSQL, until you press Ctrl-C. In another shell:")
    for name, value in settings.items():
        print(f"export {name}='{value}'", flush=True)
    print("# and for example: uv run tap-drift --config=ENV", flush=True)
    while True:
        time.sleep(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sandbox",
        description="Run a command with a Drift account and a PostgreSQL to play with. Every "
        "further call finds an account that has moved on. Without a command: serve until Ctrl-C.",
    )
    parser.add_argument("--fresh", action="store_true", help="forget what earlier calls left")
    parser.add_argument(
        "--conversations",
        type=int,
        metavar="N",
        help="the size of a new account (default: 1000)",
    )
    parser.add_argument(
        "--list",
        choices=FORMS,
        default="both",
        help="how the list goes on: by pagination.next, by links.next, by both, or by links.next "
        "only after a blank page_token (default: both)",
    )
    parser.add_argument(
        "--cursor",
        choices=["offset", "id", "keyset"],
        default="offset",
        help="what pagination.next is (default: offset)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=PROJECT / ".sandbox",
        help="where the account, PostgreSQL and Meltano's state are kept between calls",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show the log of `meltano run` also if all is well"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...")
    return parser.parse_args()


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


def _run(command: list[str], environment: dict[str, str], log: Path | None) -> int:
    """Run a command to its end; if this process is told to end, so are all that it started.

    Where there is a file for its log, that is shown only if the command fails.
    """
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("wb")) if log else None
        try:
            process = subprocess.Popen(command, env=environment, cwd=PROJECT, stderr=errors)
        except OSError as error:
            print(f"sandbox: {command[0]} can't be run: {error}", file=sys.stderr)
            return 127
        stack.enter_context(_no_process_left(process.pid))
        if log:
            stack.enter_context(Console(stderr=True).status("…"))  # only where it is a terminal
        code = None
        while code is None:
            # A signal that comes just before a wait without end would only be seen after it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=1)
    if log and code:
        print(log.read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _no_process_left(pid: int) -> Iterator[None]:
    root = psutil.Process(pid)
    try:
        yield
    except BaseException:
        family = [*root.children(recursive=True), root]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(family, timeout=SECONDS_TO_END)[1]:
            process.kill()
        raise


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
