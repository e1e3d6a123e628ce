"""One complete copy: however often it was interrupted, and it says whether it is complete."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from tap_drift.archive.cli import main
from tap_drift.archive.copying import all_streams
from tests.sandbox import TOKEN, Account, Sandbox
from tests.sandbox.expected import expected
from tests.sandbox.server import answers, error, items_never_load, since
from tests.tap import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

COMPLETE, FAILED, NOT_COMPLETE, DAMAGED, NO_ARCHIVE, IN_USE, OTHER_ACCOUNT = 0, 1, 3, 4, 5, 6, 7
STREAMS = sorted(all_streams())
FORGOTTEN = {"booked_meetings", "conversation_stats"}
"""What Drift forgets or counts anew: not to be held against the account row by row."""


def arguments(drift: Sandbox, folder: Path, *more: str, **config: Any) -> list[str]:
    file = folder.parent / f"{folder.name}.config.json"
    config = {"concurrency": 4, "lookback_seconds": 300, **config}
    file.write_text(json.dumps(settings(drift, **config)))
    return [str(folder), "--config", str(file), *more]


def archive(drift: Sandbox, folder: Path, *more: str, **config: Any) -> Result:
    """Make an archive, without a copy to read."""
    return call(*arguments(drift, folder, "--no-read", *more, **config))


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def verdict(result: Result) -> str:
    return result.stdout.splitlines()[-1]


def rows(folder: Path, stream: str) -> list[Json]:
    path = folder / "data" / f"{stream}.jsonl.gz"
    if not path.exists():
        return []
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def newest(folder: Path, stream: str) -> dict[Any, Json]:
    """The newest row of each key, as whoever reads the files finds it."""
    key = all_streams()[stream]["key_properties"]
    held = {tuple(row[field] for field in key): row for row in rows(folder, stream)}
    return {only[0] if len(only) == 1 else only: row for only, row in held.items()}


def holds(folder: Path, account: Account) -> None:
    for stream in set(STREAMS) - FORGOTTEN:
        held, all_ = newest(folder, stream), expected(account, stream)
        if stream == "contacts":  # a run that goes on meets them with an older conversation
            for contact in [*held.values(), *all_.values()]:
                contact.pop("conversationUpdatedAt")
        assert held == all_, stream


def sums_agree(folder: Path) -> bool:
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    return subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 0


def test_a_copy_is_complete_and_says_so(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(60), tmp_path / "archive"
    result = archive(drift, folder)
    assert (result.exit_code, verdict(result)) == (COMPLETE, "complete")
    holds(folder, drift.account)
    assert sums_agree(folder)
    report = json.loads((folder / "report.json").read_text())
    account = drift.account
    assert report["streams"]["messages"]["keys"] == sum(account.messages_in.values())
    silent = sorted(id_ for id_, number in account.messages_in.items() if not number)
    assert report["conversations_without"]["messages"]["empty"] == silent
    assert report["conversations_without"]["conversation_details"]["not_read"] == []
    checked = call(str(folder), "--check")
    assert (checked.exit_code, checked.stdout) == (COMPLETE, result.stdout)


def test_what_changed_is_added(sandbox: Serve, tmp_path: Path) -> None:
    account = Account(30)
    # Reports go by Drift's clock.
    clock = lambda: dt.datetime.fromtimestamp(account.now / 1000, dt.UTC)  # noqa: E731
    drift, folder = sandbox(account, clock=clock), tmp_path / "archive"
    archive(drift, folder)
    asked_at_first = len(drift.requests)
    drift.account.pass_time(3_600_000)
    drift.account.begin()
    drift.account.change(next(iter(drift.account.conversations)), "closed")
    assert verdict(archive(drift, folder)) == "complete"
    holds(folder, drift.account)
    assert len(drift.requests) - asked_at_first < asked_at_first / 2
    assert sums_agree(folder)
    assert call(str(folder), "--check").exit_code == COMPLETE


def test_killed_at_any_moment_it_goes_on(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(60, latency=0.01), tmp_path / "archive"
    command = [sys.executable, "-m", "tap_drift.archive"]
    command += arguments(drift, folder, "--no-read", page_size=10)
    moments = random.Random(7)
    for _ in range(3):
        before = len(drift.requests)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while len(drift.requests) == before and run.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.6))
            run.kill()
        if (folder / "state.json").exists():
            checked = call(str(folder), "--check")
            assert checked.exit_code == NOT_COMPLETE, checked.stdout
            assert "not read to its end" in verdict(checked)
    result = archive(drift, folder)
    assert (result.exit_code, verdict(result)) == (COMPLETE, "complete")
    holds(folder, drift.account)
    assert sums_agree(folder)


def test_a_run_that_goes_on_asks_for_no_contact_again(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(80), tmp_path / "archive"
    drift.fault = since(60, answers(error(401, "authentication_error", "The token is invalid")))
    first = archive(drift, folder, "--streams", "contacts", page_size=5)
    assert first.exit_code == NOT_COMPLETE
    asked = [path for path in drift.requests[:59] if path.startswith("/contacts/")]
    assert len(asked) > 20
    drift.fault = None
    before = len(drift.requests)
    assert verdict(archive(drift, folder, "--streams", "contacts", page_size=5)) == "complete"
    again = [path for path in drift.requests[before:] if path in asked]
    assert len(again) <= 10  # those of pages that no STATE vouched for
    assert len(newest(folder, "contacts")) == len(expected(drift.account, "contacts"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_told_to_stop_it_says_how_to_go_on(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(100, latency=0.05), tmp_path / "archive"
    command = [sys.executable, "-m", "tap_drift.archive", *arguments(drift, folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        while len(drift.requests) < 20:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        stdout, stderr = run.communicate(timeout=10)
    assert (run.returncode, stdout) == (130, b"")
    assert stderr.decode().splitlines()[-1].startswith("Stopped. What was read is safe")


def test_poisoned_items_are_named_and_mended(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(20), tmp_path / "archive"
    poisoned = sorted(drift.account.conversations)[3]
    drift.fault = items_never_load([poisoned], error(500, "server_error", "no"))
    result = archive(drift, folder)
    assert result.exit_code == NOT_COMPLETE
    assert verdict(result).startswith("not complete: ")
    assert f"of messages, what belongs to {poisoned} could not be read" in verdict(result)
    checked = call(str(folder), "--check")
    assert (checked.exit_code, verdict(checked)) == (NOT_COMPLETE, verdict(result))
    drift.fault = None
    assert verdict(archive(drift, folder)) == "complete"
    holds(folder, drift.account)


def test_what_was_gone_is_known_to_be_gone(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(20), tmp_path / "archive"
    gone = sorted(drift.account.conversations)[3]
    drift.fault = items_never_load([gone], error(404, "not_found", "No such conversation"))
    result = archive(drift, folder)
    assert verdict(result) == "complete"
    report = json.loads((folder / "report.json").read_text())
    assert report["conversations_without"]["messages"]["gone"] == [gone]
    assert f"without messages, because they were gone when their turn came: {gone}." in (
        result.stdout
    )


def test_a_stream_that_fails_makes_it_not_complete(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    drift.fault = lambda drift, request: (
        error(403, "forbidden", "No scope") if request.path == "/teams/org" else None
    )
    result = archive(drift, folder)
    assert result.exit_code == NOT_COMPLETE
    assert verdict(result) == "not complete: teams was not read to its end"


def test_a_conversation_that_changed_after_its_messages_were_read_shows(
    sandbox: Serve, tmp_path: Path
) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    archive(drift, folder)
    changed = next(iter(drift.account.conversations))
    drift.account.change(changed)
    began = drift.account.begin()
    result = archive(drift, folder, "--streams", "conversations")
    assert result.exit_code == NOT_COMPLETE
    for id_ in (changed, began):
        assert str(id_) in verdict(result)


def test_only_some_streams(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    assert verdict(archive(drift, folder, "--streams", "users,teams")) == "complete"
    assert sorted(path.name for path in (folder / "data").iterdir()) == [
        "teams.jsonl.gz",
        "users.jsonl.gz",
    ]
    result = archive(drift, folder, "--streams", "nothing")
    assert result.exit_code == FAILED
    assert "There is no stream nothing." in result.stderr


def test_limits_are_part_of_the_verdict(sandbox: Serve, tmp_path: Path) -> None:
    result = archive(sandbox(5), tmp_path / "archive", statuses=["open"])
    assert verdict(result) == "complete (as far as was asked for: status open)"


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "archive"
    with Sandbox(Account(8)) as drift:
        assert archive(drift, folder).exit_code == COMPLETE
    return folder


@pytest.mark.parametrize("harm", [cut, lengthen, change, remove])
@pytest.mark.parametrize(
    "name", ["data/messages.jsonl.gz", "data/asked.jsonl.gz", "report.json", "SHA256SUMS"]
)
def test_a_damaged_file_is_found(finished: Path, harm: Callable[[Path], None], name: str) -> None:
    path = finished / name
    content = path.read_bytes()
    try:
        harm(path)
        result = call(str(finished), "--check")
    finally:
        path.write_bytes(content)
    assert result.exit_code == DAMAGED
    assert verdict(result).startswith("damaged: ")
    assert name.rpartition("/")[2] in verdict(result)
    assert call(str(finished), "--check").exit_code == COMPLETE


@pytest.mark.parametrize("harm", [cut, lengthen, change])
def test_a_damaged_state_is_found(finished: Path, harm: Callable[[Path], None]) -> None:
    path = finished / "state.json"
    content = path.read_bytes()
    try:
        harm(path)
        result = call(str(finished), "--check")
    finally:
        path.write_bytes(content)
    assert result.exit_code == DAMAGED


def test_a_damaged_archive_is_not_written_to(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(8), tmp_path / "archive"
    archive(drift, folder)
    cut(folder / "data" / "messages.jsonl.gz")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = archive(drift, folder)
    assert result.exit_code == DAMAGED
    assert "data/messages.jsonl.gz is cut: 1 bytes of" in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# Folders


def test_a_folder_of_another_account_is_left_alone(sandbox: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    archive(sandbox(5), folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = Account(5)
    other.org = 777
    drift = sandbox(other, tokens={"another-token"})
    result = archive(drift, folder, access_token="another-token")  # noqa: S106
    assert result.exit_code == OTHER_ACCOUNT
    assert "is of account 4242, the token of 777" in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert drift.requests == []


def test_no_archive(tmp_path: Path) -> None:
    for option in ("--check", "--read"):
        result = call(str(tmp_path / "nothing"), option)
        assert result.exit_code == NO_ARCHIVE
        assert "holds no archive" in result.output
    assert not (tmp_path / "nothing").exists()


def test_a_folder_with_other_things_is_left_alone(sandbox: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear")
    result = archive(sandbox(5), folder)
    assert result.exit_code == FAILED
    assert "is not empty, and holds no archive" in result.stderr


def test_two_at_once(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(50, latency=0.2), tmp_path / "archive"
    command = [sys.executable, "-m", "tap_drift.archive", *arguments(drift, folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
        while not drift.requests:
            time.sleep(0.01)
        second = archive(drift, folder)
        run.kill()
    assert second.exit_code == IN_USE
    assert second.stderr == f"{folder} is in use by another tap-drift-archive.\n"


def test_a_folder_that_can_not_be_written(sandbox: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = arguments(sandbox(5), tmp_path / "archive")[1:]
    result = call(str(tmp_path / "file" / "archive"), *options)
    assert result.exit_code == FAILED
    (line,) = result.stderr.splitlines()
    assert "can't be written: Not a directory." in line


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_full_disk(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(80), tmp_path / "archive"
    limited = (
        "import resource, runpy, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000));"
        "runpy.run_module('tap_drift.archive', run_name='__main__')"
    )
    command = [sys.executable, "-c", limited, *arguments(drift, folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == FAILED
    *_, line = run.stderr.splitlines()
    assert "can't be written: File too large. What was written before is safe." in line
    assert "Traceback" not in run.stderr
    assert verdict(archive(drift, folder)) == "complete"
    holds(folder, drift.account)


@pytest.mark.parametrize("what", ["stream_maps", "batch_config"])
def test_settings_that_would_change_rows_are_refused(
    sandbox: Serve, tmp_path: Path, what: str
) -> None:
    batches = {"encoding": {"format": "jsonl"}, "storage": {"root": tmp_path.as_uri()}}
    config = {"stream_maps": {"users": {"email": None}}, "batch_config": batches}
    result = archive(sandbox(5), tmp_path / "archive", **{what: config[what]})
    assert result.exit_code == FAILED
    assert f"{what} is not for an archive" in result.stderr


def test_a_token_that_is_refused(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    drift.fault = answers(error(401, "authentication_error", "The access token is invalid"))
    result = archive(drift, folder)
    assert result.exit_code == NOT_COMPLETE
    assert "conversations was not read to its end" in verdict(result)
    assert TOKEN not in result.output
