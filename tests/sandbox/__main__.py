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
from typing import TYPE_CHECKING, Any

import psutil

from tests.sandbox.account import Account
from tests.sandbox.expected import expected
from tests.sandbox.listing import FORMS
from tests.sandbox.postgres import postgres, records
from tests.sandbox.server import TOKEN, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    Records = dict[Any, dict[str, Any]]

PROJECT = Path(__file__).parents[2]
SECONDS_TO_END = 10


def main() -> int:
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    signal.signal(signal.SIGTERM, _end)
    if arguments.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "account.json"
    if saved.exists():
        account = Account.load(saved)
        account.move_on()
        if arguments.conversations:
            print("sandbox: --conversations makes a new account only together with --fresh.")
    else:
        account = Account(arguments.conversations or 1000)
    account.save(saved)

    with (
        Sandbox(account, form=arguments.list, cursor=arguments.cursor) as drift,
        postgres(folder / "postgres") as url,
    ):
        settings = {
            "TAP_DRIFT_API_URL": drift.url,
            "TAP_DRIFT_ACCESS_TOKEN": TOKEN,
            "TARGET_POSTGRES_SQLALCHEMY_URL": url.replace("postgresql://", "postgresql+psycopg://"),
            # Meltano's memory of an account that is started over has to be started over with it.
            "MELTANO_DATABASE_URI": f"sqlite:///{folder / 'meltano.db'}",
        }
        if not arguments.command:
            print("# A Drift account and a PostgreSQL, until you press Ctrl-C. In another shell:")
            for name, value in settings.items():
                print(f"export {name}='{value}'", flush=True)
            print("# and for example: uv run tap-drift --config=ENV", flush=True)
            while True:
                time.sleep(1)
        code = _run(arguments.command, os.environ | settings)
        _report(drift, url)
        return code


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
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...")
    return parser.parse_args()


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command to its end; if this process is told to end, so are all that it started."""
    with contextlib.ExitStack() as stack:
        try:
            process = subprocess.Popen(command, env=environment, cwd=PROJECT)
        except OSError as error:
            print(f"sandbox: {command[0]} can't be run: {error}", file=sys.stderr)
            return 127
        stack.enter_context(_no_process_left(process.pid))
        code = None
        while code is None:
            # A signal that comes just before a wait without end would only be seen after it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=1)
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


def _report(drift: Sandbox, url: str) -> None:
    """Say what the account holds, what arrived, and whether they agree."""
    account = expected(drift.account)
    print(f"\nsandbox: the Drift account holds {len(account):,} conversations.")
    answered = len(drift.requests) + drift.token_infos
    print(f"sandbox: Drift answered {answered:,} request{'s' * (answered != 1)}.")
    if not drift.requests:
        return
    table, arrived = records(url, "conversations")
    if table is None:
        print("sandbox: PostgreSQL holds no table of conversations.")
        return
    target = {row["id"]: _comparable(row, next(iter(account.values()))) for row in arrived}
    agree = target == account and len(arrived) == len(account)
    verdict = "the same as the account" if agree else _difference(account, target, len(arrived))
    print(f"sandbox: PostgreSQL holds {len(arrived):,} rows in {table}: {verdict}.")


def _comparable(row: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Bring a row of a table into the shape of a record: targets change the case of names."""
    lowered = {name.lower().replace("_", ""): value for name, value in row.items()}
    return {name: lowered.get(name.lower()) for name in like}


def _difference(account: Records, target: Records, arrived: int) -> str:
    missing, extra = len(account.keys() - target.keys()), len(target.keys() - account.keys())
    other = sum(account[id_] != target[id_] for id_ in account.keys() & target.keys())
    twice = arrived - len(target)
    return (
        f"NOT the same as the account ({missing:,} missing, {extra:,} too many, {other:,} "
        f"different, {twice:,} more than once)"
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
