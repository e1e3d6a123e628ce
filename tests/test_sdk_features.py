"""What every tap on the Singer SDK can do, this one does."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from meltano.core.logging.parsers import SingerSDKLogParser
from ruamel.yaml import YAML

from tests.documents import shown
from tests.processes import run_command
from tests.sandbox.expected import expected
from tests.sandbox.server import answers, error
from tests.tap import NO_WALK, Target, run_here, run_tap, selecting, settings, tap_command, upserted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]


def schema(messages: list[Json], stream: str = "conversations") -> Json:
    (found,) = (m for m in messages if m["type"] == "SCHEMA" and m["stream"] == stream)
    properties: Json = found["schema"]["properties"]
    return properties


def md5(value: Any) -> str:
    return hashlib.md5(str(value).encode()).hexdigest()  # noqa: S324


# Stream maps


def test_a_stream_map_hashes_a_field_and_filters_records(sandbox: Serve) -> None:
    drift = sandbox(120)
    stream_map = {
        "contact": "md5(str(contactId))",
        "contactId": None,
        "__filter__": "status == 'closed'",
    }
    output = run_here(settings(drift, stream_maps={"conversations": stream_map}))
    due = [row for row in expected(drift.account).values() if row["status"] == "closed"]
    for row in due:
        row["contact"] = md5(row.pop("contactId"))
    assert 0 < len(due) < 120
    assert upserted({}, output.records()) == {row["id"]: row for row in due}
    assert "contact" in schema(output.messages)
    assert "contactId" not in schema(output.messages)


def test_the_stream_map_that_the_documents_show(sandbox: Serve) -> None:
    drift = sandbox(60)
    config = settings(drift, **YAML().load(shown("stream maps"))["config"])
    output = run_here(config, catalog=selecting("messages"))
    due = expected(drift.account, "messages")
    for row in due.values():
        row["body"] = md5(row["body"]) if "body" in row else None
        row.pop("context", None)
    assert upserted({}, output.records("messages")) == due
    assert {row["body"] for row in due.values()} > {None}


@pytest.mark.parametrize("key", ["messages", "mess*", "copy"])
def test_a_map_of_a_stream_that_is_not_selected_does_nothing(sandbox: Serve, key: str) -> None:
    drift = sandbox(3)
    stream_map: Json = {"context": "__NULL__", "id": "1 +"}
    if key == "copy":
        stream_map["__source__"] = "messages"
    output = run_here(settings(drift, stream_maps={key: stream_map}))
    assert output.exit_code == 0
    assert upserted({}, output.records()) == expected(drift.account)


def test_what_a_stream_map_filters_out_is_not_read_again(sandbox: Serve) -> None:
    drift = sandbox(120)
    config = settings(drift, stream_maps={"conversations": {"__filter__": "False"}})
    first = run_here(config)
    assert first.records() == []
    requests = len(drift.requests)
    run_here(config, first.state)
    assert len(drift.requests) == requests + 1


# Flattening


def test_flattening(sandbox: Serve) -> None:
    drift = sandbox(20)
    config = settings(drift, flattening_enabled=True, flattening_max_depth=1)
    output = run_here(config, catalog=selecting("messages"))
    due = expected(drift.account, "messages")
    assert {(row["id"], row["author__id"]) for row in output.records("messages")} == {
        (row["id"], row["author"]["id"]) for row in due.values()
    }
    assert {"author__id", "author__type"} <= schema(output.messages, "messages").keys()
    assert "author" not in schema(output.messages, "messages")


# BATCH messages


def batches(folder: Path, batch_size: int) -> Json:
    return {
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "storage": {"root": folder.as_uri()},
        "batch_size": batch_size,
    }


def in_batches(messages: list[Json]) -> list[Json]:
    """The records in all the files that BATCH messages name."""
    return [
        json.loads(line)
        for message in messages
        if message["type"] == "BATCH"
        for file in message["manifest"]
        for line in gzip.decompress(Path(urlsplit(file).path).read_bytes()).splitlines()
    ]


@pytest.mark.parametrize("batch_size", [1, 7, 50, 60, 1000])
def test_batches_hold_the_account(sandbox: Serve, tmp_path: Path, batch_size: int) -> None:
    drift = sandbox(120)
    config = settings(drift, batch_config=batches(tmp_path, batch_size))
    output = run_here(config)
    assert output.records() == []
    assert len(in_batches(output.messages)) == 120
    assert upserted({}, in_batches(output.messages)) == expected(drift.account)
    newest = max(row["updatedAt"] for row in expected(drift.account).values())
    assert output.bookmark()["replication_key_value"] == newest
    assert output.bookmark()["walk"] == NO_WALK

    drift.account.move_on()
    requests = len(drift.requests)
    again = run_here(config, output.state)
    assert len(drift.requests) == requests + 1
    both = [*in_batches(output.messages), *in_batches(again.messages)]
    assert upserted({}, both) == expected(drift.account)

    drift.account.pass_time()
    assert run_here(config, again.state).state == again.state


@pytest.mark.parametrize("batch_size", [7, 50, 60])
@pytest.mark.parametrize("page_size", [20, 50])
def test_no_state_vouches_for_a_record_that_is_in_no_batch(
    sandbox: Serve, tmp_path: Path, batch_size: int, page_size: int
) -> None:
    drift = sandbox(120)
    config = settings(
        drift, page_size=page_size, batch_config=batches(tmp_path, batch_size), max_retries=0
    )
    drift.faults[3] = answers(error(403, "authentication_error", "No longer"))
    failed = run_here(config)
    assert failed.exit_code == 1
    whole = run_here(config)
    killed = [run_here(config, target=Target(dies_after=n)) for n in range(1, 8)]
    for messages in (failed.messages, whole.messages, *(run.messages for run in killed)):
        for end, message in enumerate(messages):
            if message["type"] == "STATE":
                rest = run_here(config, message["value"])
                arrived = [*in_batches(messages[:end]), *in_batches(rest.messages)]
                assert upserted({}, arrived) == expected(drift.account)


@pytest.mark.parametrize("failing", ["storage", "stream map"])
def test_what_could_not_be_written_to_a_batch_is_read_again(
    sandbox: Serve, tmp_path: Path, failing: str
) -> None:
    drift = sandbox(30)
    (file := tmp_path / "file").touch()
    good = settings(drift, page_size=5, batch_config=batches(tmp_path, 1000))
    bad = good | {"batch_config": batches(file, 1000)}
    if failing == "stream map":
        twentieth = drift.account.listing()[19]["id"]
        bad = good | {"stream_maps": {"conversations": {"odd": f"1 / (id - {twentieth})"}}}
    failed = run_here(bad, None, selecting("conversations", "users"))
    assert failed.exit_code == 1
    again = run_here(good, failed.state)
    assert again.exit_code == 0
    written = [message for message in failed.messages if message.get("stream") != "users"]
    arrived = upserted({}, [*in_batches(written), *in_batches(again.messages)])
    assert arrived.keys() == expected(drift.account).keys()


def test_batches_hold_what_stream_maps_and_the_selection_leave(
    sandbox: Serve, tmp_path: Path
) -> None:
    drift = sandbox(120)
    stream_map = {"contactId": "md5(str(contactId))", "__filter__": "status == 'closed'"}
    config = settings(
        drift, batch_config=batches(tmp_path, 30), stream_maps={"conversations": stream_map}
    )
    output = run_here(config, catalog=selecting("conversations", without=("inboxId",)))
    due = [row for row in expected(drift.account).values() if row["status"] == "closed"]
    for row in due:
        row["contactId"] = md5(row["contactId"])
        del row["inboxId"]
    assert upserted({}, in_batches(output.messages)) == {row["id"]: row for row in due}


# Catalog, selection and state


def test_a_field_that_is_not_selected_stays_away(sandbox: Serve) -> None:
    drift = sandbox(60)
    output = run_here(
        settings(drift), catalog=selecting("conversations", without=("contactId", "id"))
    )
    due = expected(drift.account)
    for row in due.values():
        del row["contactId"]
    assert upserted({}, output.records()) == due  # the key comes all the same
    assert "contactId" not in schema(output.messages)


def test_a_field_that_the_catalog_has_as_a_number_stays(sandbox: Serve) -> None:
    drift = sandbox(5)
    catalog = selecting("conversations")
    (entry,) = [e for e in catalog["streams"] if e["tap_stream_id"] == "conversations"]
    entry["schema"]["properties"]["inboxId"]["type"] = ["number", "null"]
    output = run_here(settings(drift), None, catalog)
    assert upserted({}, output.records()) == expected(drift.account)


def test_the_catalog_and_the_state_from_files(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(60)
    config = settings(drift)
    discover = [*tap_command(tmp_path, config), "--discover"]
    catalog = json.loads(run_command(discover).stdout)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] in {"users", "teams"}
    output = run_tap(tmp_path, config, None, catalog)
    assert {m["stream"] for m in output.messages if "stream" in m} == {"users", "teams"}
    assert upserted({}, output.records("users")) == expected(drift.account, "users")

    first = run_tap(tmp_path, config)
    drift.account.move_on()
    requests = len(drift.requests)
    second = run_tap(tmp_path, config, first.state)
    assert len(drift.requests) == requests + 1
    assert upserted({}, [*first.records(), *second.records()]) == expected(drift.account)


# Logs


def test_the_metrics_of_each_request_can_be_quietened(sandbox: Serve, tmp_path: Path) -> None:
    (path := tmp_path / "logging.yml").write_text(shown("quiet log"))
    catalog = selecting("messages")
    loud = run_tap(tmp_path, settings(sandbox(6)), None, catalog)
    quiet = run_tap(
        tmp_path,
        settings(sandbox(6)),
        None,
        catalog,
        environment={"SINGER_SDK_LOG_CONFIG": str(path)},
    )
    assert loud.stderr.count("http_request_duration") == 8
    assert "http_request_duration" not in quiet.stderr
    for line in ("http_request_count", "record_count", "messages: read to the end"):
        assert quiet.stderr.count(line) == loud.stderr.count(line) > 0


def test_structured_logs_are_read_by_the_parser_that_the_definition_names(
    sandbox: Serve, tmp_path: Path
) -> None:
    drift = sandbox(60)
    drift.faults[2] = answers(error(403, "authentication_error", "Not for you"))
    (path := tmp_path / "logging.json").write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"json": {"()": "singer_sdk.logging.StructuredFormatter"}},
                "handlers": {
                    "stderr": {
                        "class": "logging.StreamHandler",
                        "stream": "ext://sys.stderr",
                        "formatter": "json",
                    }
                },
                "root": {"level": "INFO", "handlers": ["stderr"]},
            }
        )
    )
    output = run_tap(tmp_path, settings(drift), environment={"SINGER_SDK_LOG_CONFIG": str(path)})
    assert output.exit_code == 1
    lines = output.stderr.splitlines()
    read = [SingerSDKLogParser().parse(line) for line in lines]
    assert None not in read
    assert any("Not for you" in record.message for record in read if record and record.level == 40)
