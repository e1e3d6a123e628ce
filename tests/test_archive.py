"""One complete copy: however often it was interrupted, and it says whether it is complete."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tap_drift.archive import progress
from tap_drift.archive.writer import now
from tests.archives import (
    COMPLETE,
    DAMAGED,
    FAILED,
    IN_USE,
    NO_ARCHIVE,
    NOT_COMPLETE,
    OTHER_ACCOUNT,
    archive,
    arguments,
    call,
    holds,
    newest,
    rows,
    sums_agree,
    verdict,
)
from tests.sandbox import TOKEN, Account, Sandbox
from tests.sandbox.expected import expected
from tests.sandbox.server import Request, answers, error, items_never_load, since

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Serve = Callable[..., Sandbox]

REFUSED = answers(error(401, "authentication_error", "The access token is invalid"))


def test_a_copy_is_complete_and_says_so(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(60), tmp_path / "archive"
    result = archive(drift, folder)
    assert (result.exit_code, verdict(result)) == (COMPLETE, "complete as of then")
    holds(folder, drift.account)
    assert sums_agree(folder)
    report = json.loads((folder / "report.json").read_text())
    account = drift.account
    assert report["streams"]["messages"]["keys"] == sum(account.messages_in.values())
    silent = sorted(id_ for id_, number in account.messages_in.items() if not number)
    assert report["without"]["messages"]["empty"] == silent
    assert report["without"]["conversation_details"]["not_read"] == []
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
    assert verdict(archive(drift, folder)) == "complete as of then"
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
            assert verdict(checked).startswith("not complete: ")
    result = archive(drift, folder)
    assert (result.exit_code, verdict(result)) == (COMPLETE, "complete as of then")
    holds(folder, drift.account)
    assert sums_agree(folder)


def test_a_run_that_goes_on_asks_for_no_contact_again(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(80), tmp_path / "archive"
    drift.fault = since(40, answers(error(401, "authentication_error", "The token is invalid")))
    first = archive(drift, folder, "--streams", "contacts", page_size=5)
    assert first.exit_code == NOT_COMPLETE
    asked = [path for path in drift.requests[:39] if path.startswith("/contacts/")]
    assert len(asked) > 20
    drift.fault = None
    before = len(drift.requests)
    again = archive(drift, folder, "--streams", "contacts", page_size=5)
    assert verdict(again) == "complete as of then (as far as was asked for: only contacts)"
    twice = [path for path in drift.requests[before:] if path in asked]
    assert len(twice) <= 10  # those of pages that no STATE vouched for
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
    assert verdict(archive(drift, folder)) == "complete as of then"
    holds(folder, drift.account)


def test_what_was_gone_is_known_to_be_gone(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(20), tmp_path / "archive"
    gone = sorted(drift.account.conversations)[3]
    drift.fault = items_never_load([gone], error(404, "not_found", "No such conversation"))
    result = archive(drift, folder)
    assert verdict(result) == "complete as of then"
    report = json.loads((folder / "report.json").read_text())
    assert report["without"]["messages"]["gone"] == [gone]
    line = f"messages: gone when their turn came, those of 1 conversation: {gone}."
    assert line in result.stdout.splitlines()


def test_what_was_deleted_after_the_list_was_read_is_known_to_be_gone(
    sandbox: Serve, tmp_path: Path
) -> None:
    account, folder = Account(20), tmp_path / "archive"
    drift = sandbox(account)
    deleted = sorted(account.conversations)[3]

    def delete(drift: Sandbox, request: Request) -> None:
        if request.path == "/teams/org" and deleted in account.conversations:
            account.delete(deleted)

    drift.fault = delete
    result = archive(drift, folder)
    assert verdict(result) == "complete as of then"
    report = json.loads((folder / "report.json").read_text())
    assert report["streams"]["conversations"]["keys"] == 20
    assert report["without"]["transcripts"]["gone"] == [deleted]


def test_a_stream_that_fails_makes_it_not_complete(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    drift.fault = lambda drift, request: (
        error(403, "forbidden", "No scope") if request.path == "/teams/org" else None
    )
    result = archive(drift, folder)
    assert result.exit_code == NOT_COMPLETE
    why = "teams: not read to the end (Drift answered 403 (forbidden: No scope))"
    assert verdict(result) == f"not complete: {why}"
    report = json.loads((folder / "report.json").read_text())
    assert report["why_not"] == [why]
    assert "the scope" in report["streams"]["teams"]["broke_off"]
    assert report["streams"]["users"]["broke_off"] is None


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
    assert "; what is newer is not all there: " in verdict(result)
    for id_ in (changed, began):
        assert str(id_) in verdict(result)


def test_its_version_is_the_taps() -> None:
    assert call("--version").stdout == f"tap-drift-archive v{version('tap-drift')}\n"


def test_only_some_streams(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    result = archive(drift, folder, "--streams", "users,teams")
    assert verdict(result) == "complete as of then (as far as was asked for: only teams, users)"
    assert sorted(path.name for path in (folder / "data").iterdir()) == [
        "teams.jsonl.gz",
        "users.jsonl.gz",
    ]
    result = archive(drift, tmp_path / "another", "--streams", "nothing")
    assert result.exit_code == FAILED
    assert "There is no stream nothing." in result.stderr
    assert not (tmp_path / "another").exists()


def test_what_is_not_read_again_is_complete_as_of_before(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(2), tmp_path / "archive"
    archive(drift, folder)
    state = json.loads((folder / "state.json").read_text())
    for stream in state["streams"].values():
        stream["as_of"] = "2026-01-02T03:04:05Z"
    (folder / "state.json").write_text(json.dumps(state))
    for more, is_as_of_before in ((["--streams", "users"], True), ([], False)):
        result = archive(drift, folder, *more)
        is_old = result.stdout.endswith("complete as of 2026-01-02 03:04 UTC\n")
        assert (result.exit_code, is_old) == (COMPLETE, is_as_of_before)


def test_limits_are_part_of_the_verdict(sandbox: Serve, tmp_path: Path) -> None:
    result = archive(sandbox(5), tmp_path / "archive", statuses=["open"])
    assert verdict(result) == "complete as of then (as far as was asked for: status open)"


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


@pytest.mark.parametrize("harm", [cut, lengthen, change, remove])
def test_a_damaged_state_is_found(finished: Path, harm: Callable[[Path], None]) -> None:
    path = finished / "state.json"
    content = path.read_bytes()
    try:
        harm(path)
        result = call(str(finished), "--check")
    finally:
        path.write_bytes(content)
    assert result.exit_code == DAMAGED
    assert "state.json" in verdict(result)


def test_without_its_state_an_archive_is_not_written_to(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(2), tmp_path / "archive"
    archive(drift, folder)
    remove(folder / "state.json")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = archive(drift, folder)
    assert result.exit_code == DAMAGED
    assert "state.json is missing. Put back a copy, or begin in a new folder." in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


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


def test_whose_folder_it_is_is_asked_until_it_is_known(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(2, token_info_status=500), tmp_path / "archive"
    for status, account in ((500, ""), (200, "4242")):
        drift.token_info_status = status
        archive(drift, folder, "--streams", "users")
        known = json.loads((folder / "state.json").read_text())["account"]
        assert known.partition(":")[0] == account


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
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_killed_in_its_first_moment_it_begins(sandbox: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in (".lock", "state.json.new"):
        (folder / name).write_text("")
    assert archive(sandbox(5), folder).exit_code == COMPLETE


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
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "sys.dont_write_bytecode = True;"  # else compiled modules would be cut, and stay so
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000));"
        "runpy.run_module('tap_drift.archive', run_name='__main__')"
    )
    command = [sys.executable, "-c", limited, *arguments(drift, folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == FAILED
    *_, line = run.stderr.splitlines()
    assert "can't be written: File too large. What was written before is safe." in line
    assert "Traceback" not in run.stderr
    assert verdict(archive(drift, folder)) == "complete as of then"
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
    drift.fault = REFUSED
    result = call(*arguments(drift, folder))
    assert result.exit_code == NOT_COMPLETE
    assert verdict(result) == "not complete: Drift refused the token (401): all 15 streams"
    assert TOKEN not in result.output
    left = {"SHA256SUMS", "data", "report.json", "state.json"}
    assert {path.name for path in folder.iterdir()} - {".lock"} == left


def test_no_token_leaves_no_folder(sandbox: Serve, tmp_path: Path) -> None:
    result = archive(sandbox(5), tmp_path / "archive", access_token="")
    assert result.exit_code == FAILED
    assert not (tmp_path / "archive").exists()


# What was complete once


def test_what_was_complete_stays_so_when_drift_can_not_be_asked(
    sandbox: Serve, tmp_path: Path
) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    before = now()
    archive(drift, folder)
    held = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
    drift.fault = REFUSED
    result = call(*arguments(drift, folder))
    report = json.loads((folder / "report.json").read_text())
    as_of = report["complete_as_of"]
    assert before <= as_of <= min(of["read_to_end_at"] for of in report["streams"].values())
    said = f"complete as of {as_of[:10]} {as_of[11:16]} UTC; what is newer is not all there: "
    said += "Drift refused the token (401): all 15 streams"
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (NOT_COMPLETE, said)
    checked = call(str(folder), "--check")
    assert (checked.exit_code, checked.stdout.splitlines()[-1]) == (COMPLETE, said)
    assert said[1:] in (folder / "pages" / "index.html").read_text()
    assert {path.name: path.read_bytes() for path in (folder / "data").iterdir()} == held
    drift.fault = None
    assert verdict(archive(drift, folder)) == "complete as of then"
    assert json.loads((folder / "report.json").read_text())["complete_as_of"] >= as_of


def test_what_broke_off_while_it_was_brought_up_to_date_is_complete_as_of_before(
    sandbox: Serve, tmp_path: Path
) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    archive(drift, folder)
    drift.account.pass_time(3_600_000)
    changed = next(iter(drift.account.conversations))
    drift.account.change(changed)
    began = drift.account.begin()
    drift.fault = lambda drift, request: (
        error(401, "authentication_error", "Expired") if "/messages" in request.path else None
    )
    result = archive(drift, folder)
    assert result.exit_code == NOT_COMPLETE
    assert verdict(result).startswith("complete as of then; ")
    why = "attachments, messages: not read to the end (Drift refused the token (401))"
    assert verdict(result).endswith(f"; what is newer is not all there: {why}")
    without = json.loads((folder / "report.json").read_text())["without"]["messages"]
    assert (without["changed_since"], without["not_read"]) == ([changed], [began])
    assert call(str(folder), "--check").exit_code == COMPLETE


def test_complete_in_less_is_not_complete_in_what_was_asked_for_later(
    sandbox: Serve, tmp_path: Path
) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    archive(drift, folder, "--streams", "users")
    drift.fault = REFUSED
    result = archive(drift, folder, "--streams", "users")
    assert "(as far as was asked for: only users); what is newer" in verdict(result)
    archive(drift, folder, "--streams", "users,teams")
    checked = call(str(folder), "--check")
    assert (checked.exit_code, verdict(checked)[:13]) == (NOT_COMPLETE, "not complete:")


# What is told


def test_what_is_told_can_be_understood(sandbox: Serve, tmp_path: Path) -> None:
    drift, folder = sandbox(5), tmp_path / "archive"
    result = archive(drift, folder, "--streams", "users")
    first, *_, last = result.stderr.splitlines()
    assert first == f"Reading 1 stream into {folder} ..."
    assert re.fullmatch(r"1/1 users done: \d+ rows; 0 s; 1 kB in 1 file", last)
    assert "different ones" not in result.stdout
    again = archive(drift, folder, "--streams", "users")
    assert "Keys are the different ones; rows are more" in again.stdout


def test_how_far_it_is_counts_conversations_once(
    sandbox: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift, folder = sandbox(60), tmp_path / "archive"
    archive(drift, folder, "--streams", "conversations")
    drift.account.change(next(iter(drift.account.conversations)))
    archive(drift, folder, "--streams", "conversations")
    assert len(rows(folder, "conversations")) > 60
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    result = archive(drift, folder, "--streams", "messages", page_size=10)
    assert re.search(r"1/1 messages: \d+ rows; [1-9]\d* of 60 conversations, about", result.stderr)
