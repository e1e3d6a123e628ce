"""Deletions: ACTIVATE_VERSION follows what was read whole, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sandbox.expected import expected
from tests.sandbox.faults import answers, changing, edited
from tests.sandbox.server import error
from tests.tap import Output, run_here, selecting, settings, tap_command
from tests.test_targets import TARGETS, installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from werkzeug.wrappers import Request, Response

    from tests.sandbox import Sandbox
    from tests.sandbox.faults import Fault

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

FULL_TABLE_STREAMS = ("users", "teams", "accounts", "playbooks")
FORBIDDEN = answers(error(403, "forbidden", "no"))
FULL: Json = {"method": "FULL_TABLE"}


def activated(output: Output) -> set[str]:
    return {m["stream"] for m in output.messages if m["type"] == "ACTIVATE_VERSION"}


def config_of(drift: Sandbox, **more: Any) -> Json:
    return settings(drift, emit_activate_version_messages=True, **more)


def test_it_follows_the_last_record_and_records_carry_the_version(sandbox: Serve) -> None:
    streams = (*FULL_TABLE_STREAMS, "conversations", "messages", "contacts")
    output = run_here(config_of(sandbox(60)), catalog=selecting(*streams, **FULL))
    for stream in streams:
        of_stream = [
            m for m in output.messages if m.get("stream") == stream and m["type"] != "SCHEMA"
        ]
        assert [m["type"] for m in of_stream[:-1]] == ["RECORD"] * (len(of_stream) - 1)
        assert len(of_stream) > 1
        assert of_stream[-1]["type"] == "ACTIVATE_VERSION"
        assert {m["version"] for m in of_stream} == {of_stream[-1]["version"]}


def test_streams_that_are_full_table_by_themselves(sandbox: Serve) -> None:
    streams = (*FULL_TABLE_STREAMS, "conversations")
    output = run_here(config_of(sandbox(3)), catalog=selecting(*streams))
    assert activated(output) == set(FULL_TABLE_STREAMS)


@pytest.mark.parametrize(
    "limits",
    [
        {"emit_activate_version_messages": False},
        {"start_date": "2020-01-01"},
        {"statuses": ["open", "closed", "pending"]},
    ],
    ids=str,
)
def test_never_without_being_asked_or_with_a_filter(sandbox: Serve, limits: Json) -> None:
    catalog = selecting("users", "conversations", **FULL)
    output = run_here(config_of(sandbox(3)) | limits, catalog=catalog)
    assert output.records("users")
    assert activated(output) == set()


def test_never_in_batches(sandbox: Serve, tmp_path: Path) -> None:
    batches = {
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "storage": {"root": tmp_path.as_uri()},
    }
    output = run_here(config_of(sandbox(3), batch_config=batches), catalog=selecting("users"))
    assert [m["type"] for m in output.messages if m.get("stream") == "users"] == ["SCHEMA", "BATCH"]


def one_conversation_fails(drift: Sandbox, request: Request) -> Response | None:
    id_ = drift.account.listing()[5]["id"]
    return error(500, "server", "no") if request.path.endswith(f"/{id_}/messages") else None


def without_id(body: Any) -> None:
    del body["data"][1]["id"]


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        ("conversations", lambda drift, request: error(500, "server", "no")),
        ("users", FORBIDDEN),
        ("users", edited(without_id)),
        ("messages", one_conversation_fails),
    ],
    ids=["failed", "refused", "left out", "owed"],
)
def test_never_if_anything_is_missing(sandbox: Serve, stream: str, fault: Fault) -> None:
    drift = sandbox(60)
    if stream == "conversations":
        drift.faults = dict.fromkeys(range(3, 60), fault)
    else:
        drift.fault = fault
    output = run_here(config_of(drift, page_size=20), catalog=selecting(stream, **FULL))
    assert output.exit_code == 1
    assert bool(output.records(stream)) == (fault is not FORBIDDEN)
    assert activated(output) == set()


@pytest.mark.parametrize("stream", ["conversations", "messages"])
def test_what_jumps_over_the_walk_is_read_before_anything_is_deleted(
    sandbox: Serve, stream: str
) -> None:
    drift = sandbox(60)
    lowest, second = (row["id"] for row in drift.account.listing()[:-3:-1])
    drift.faults[2] = changing(lambda account: account.change(lowest))
    drift.faults[5] = changing(lambda account: account.change(second))
    output = run_here(config_of(drift, page_size=10), catalog=selecting(stream, **FULL))
    assert activated(output) == {stream}
    assert {row["id"] for row in output.records(stream)} == set(expected(drift.account, stream))


def test_a_list_that_never_rests_deletes_nothing(sandbox: Serve) -> None:
    drift = sandbox(30)
    id_ = next(iter(drift.account.conversations))
    change = changing(lambda account: account.change(id_))
    drift.faults = dict.fromkeys(range(3, 40), change)  # the end of the list is asked for twice
    output = run_here(config_of(drift), catalog=selecting("conversations", **FULL))
    assert output.exit_code == 0
    assert len(drift.requests) < 20
    assert activated(output) == set()


def test_into_postgres(sandbox: Serve, postgres_url: str, tmp_path: Path) -> None:
    drift, target = sandbox(60), TARGETS["meltanolabs-target-postgres"]
    of_target = target.config(tmp_path, postgres_url)
    (path := tmp_path / "target.json").write_text(json.dumps(of_target))
    catalog = selecting("conversations", "users", **FULL)
    tap = tap_command(tmp_path, config_of(drift, page_size=10), None, catalog)

    def load(stop_at: int | None = None) -> int:
        time.sleep(1.1)  # versions are seconds
        with subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as giving:
            if stop_at is not None:
                drift.faults[stop_at] = lambda drift, request: giving.terminate()
            messages = giving.communicate()[0]
        taking = [str(installed(target)), "--config", str(path)]
        subprocess.run(taking, input=messages, capture_output=True, check=True)
        return giving.returncode

    def there() -> tuple[set[int], set[int]]:
        with psycopg.connect(postgres_url) as connection:
            rows = connection.execute(
                "select id, _sdc_deleted_at is null from by_meltanolabs.conversations"
            ).fetchall()
        return {int(id_) for id_, _ in rows}, {int(id_) for id_, alive in rows if alive}

    assert load() == 0
    everything = set(drift.account.conversations)
    assert there() == (everything, everything)
    gone = drift.account.listing()[30]["id"]
    drift.account.delete(gone)
    assert load(stop_at=len(drift.requests) + 3) == 128 + signal.SIGTERM
    assert there() == (everything, everything)
    assert load() == 0
    alive = everything - {gone}
    assert there() == (everything, alive)
    path.write_text(json.dumps(of_target | {"hard_delete": True}))
    assert load() == 0
    assert there() == (alive, alive)
