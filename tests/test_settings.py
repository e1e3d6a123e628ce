"""Settings: each is used, and each mistake is named in a line."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox import TOKEN
from tests.tap import command, run_tap, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox import Sandbox

NAMES = {
    "access_token",
    "start_date",
    "statuses",
    "lookback_seconds",
    "page_size",
    "concurrency",
    "requests_per_minute",
    "request_timeout",
    "max_retries",
    "user_agent",
    "api_url",
}

BATCHES = {"encoding": {"format": "jsonl"}, "storage": {"root": "file:///nowhere"}}

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"access_token": None}, "access_token"),
    ({"access_token": ""}, "access_token is empty"),
    ({"access_token": f"{TOKEN}\n"}, "access_token is empty, or has a space, a line break"),
    ({"access_token": [TOKEN]}, "access_token"),
    ({"start_date": "yesterday"}, "start_date 'yesterday' is no time with a time zone"),
    ({"start_date": "2024-01-01T00:00:00"}, "is no time with a time zone"),
    ({"start_date": "2024-01-01"}, "is no time with a time zone"),
    ({"start_date": 1700000000000}, "start_date"),
    ({"statuses": ["open", "bulk_sent"]}, "'bulk_sent' is not one of"),
    ({"statuses": "open"}, "statuses"),
    ({"page_size": 0}, "page_size"),
    ({"page_size": 51}, "page_size"),
    ({"concurrency": 0}, "concurrency"),
    ({"concurrency": 33}, "concurrency"),
    ({"requests_per_minute": 0}, "requests_per_minute"),
    ({"request_timeout": 0}, "request_timeout"),
    ({"request_timeout": 10**10}, "request_timeout"),
    ({"batch_config": {**BATCHES, "batch_size": 0}}, "batch_size 0 is less"),
    ({"max_retries": 21}, "max_retries"),
    ({"max_retries": -1}, "max_retries"),
    ({"lookback_seconds": -1}, "lookback_seconds"),
    ({"user_agent": ""}, "user_agent '' is empty"),
    ({"user_agent": "acme\n1.0"}, "has what no HTTP header may have"),
    ({"user_agent": "☃"}, "has what no HTTP header may have"),
    ({"api_url": "http://driftapi.com"}, "is not safe for the token"),
    ({"api_url": "http://192.168.1.5"}, "is not safe for the token"),
    ({"api_url": "driftapi.com"}, "is not safe for the token"),
    ({"api_url": "http://[::1"}, "is not safe for the token"),
    ({"api_url": "https://exa mple.com"}, "is not safe for the token"),
    ({"api_url": "https://127.0.0.1:99999"}, "is not safe for the token"),
    ({"api_url": "https://user@driftapi.com"}, "is not safe for the token"),
]


@pytest.mark.parametrize(("mistake", "named"), MISTAKES, ids=str)
def test_a_mistake_is_one_clear_line(tmp_path: Path, mistake: dict[str, Any], named: str) -> None:
    config = {"access_token": TOKEN, "api_url": "http://127.0.0.1:9", **mistake}
    config = {name: value for name, value in config.items() if value is not None}
    output = run_tap(tmp_path, config)
    errors = [line for line in output.stderr.splitlines() if "| ERROR" in line]
    assert len(errors) == 1
    assert named in errors[0]
    assert output.exit_code == 1
    assert output.messages == []
    assert "Traceback" not in output.stderr
    assert TOKEN not in output.stderr


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config", "{", "--config can't be read"),
        ("config", "[1]", "--config can't be read"),
        ("state", "{", "--state is no JSON of the shape"),
        ("state", "[]", "--state is no JSON of the shape"),
        ("state", '{"bookmarks": []}', "The state is damaged"),
        ("state", '{"bookmarks": {"conversations": "2024"}}', "The state is damaged"),
        ("catalog", "no", "--catalog is no JSON of the shape"),
        ("catalog", "[]", "--catalog is no JSON of the shape"),
        ("catalog", '{"streams": null}', "--catalog is no JSON of the shape"),
        ("catalog", '{"streams": ["conversations"]}', "--catalog is no JSON of the shape"),
        ("catalog", '{"streams": [{"stream": "users"}]}', "--catalog is no JSON of the shape"),
    ],
)
def test_a_broken_file_is_one_clear_line(
    tmp_path: Path, file: str, content: str, named: str
) -> None:
    arguments = []
    for name in ("config", "state", "catalog"):
        path = tmp_path / name
        path.write_text(
            json.dumps({"access_token": TOKEN, "api_url": "http://127.0.0.1:9"})
            if name == "config"
            else "{}"
            if name == "state"
            else '{"streams": []}'
        )
        if name == file:
            path.write_text(content)
        arguments += [f"--{name}", str(path)]
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert named in done.stderr
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        command("--config", str(tmp_path / "no.json")), capture_output=True, text=True, check=False
    )
    assert "no.json" in done.stderr
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("TAP_DRIFT_PAGE_SIZE", "many"), ("TAP_DRIFT_MAX_RETRIES", "")]
)
def test_a_variable_that_is_no_number_is_named(variable: str, value: str) -> None:
    done = subprocess.run(
        command("--config", "ENV"),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TAP_DRIFT_ACCESS_TOKEN": TOKEN, variable: value},
    )
    assert "A TAP_DRIFT_ variable is not what its setting asks for" in done.stderr
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_settings_come_from_the_environment(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    drift = sandbox(120)
    done = subprocess.run(
        command("--config=ENV"),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {
            "TAP_DRIFT_ACCESS_TOKEN": TOKEN,
            "TAP_DRIFT_API_URL": drift.url,
            "TAP_DRIFT_PAGE_SIZE": "20",
            "TAP_DRIFT_STATUSES": '["closed"]',
        },
    )
    assert '"status":"closed"' in done.stdout
    assert '"status":"open"' not in done.stdout
    assert drift.requests[0] == "/conversations/list?limit=20&statusId=2"


def test_a_setting_that_is_null_has_its_default(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    drift = sandbox(3)
    about = json.loads(subprocess.check_output(command("--about", "--format=json")))
    output = run_tap(tmp_path, dict.fromkeys(about["settings"]["properties"]) | settings(drift))
    assert output.exit_code == 0, output.stderr
    assert len(output.records()) == 3


def test_about_names_every_setting_with_title_and_description() -> None:
    done = subprocess.run(command("--about", "--format=json"), capture_output=True, check=True)
    about = json.loads(done.stdout)
    own = {name: about["settings"]["properties"][name] for name in NAMES}
    assert all(setting["title"] and setting["description"] for setting in own.values())
    assert own["access_token"]["secret"]
    assert about["settings"]["required"] == ["access_token"]


@pytest.mark.parametrize("arguments", [[], ["--config=ENV"]])
def test_discovery_needs_no_token(arguments: list[str]) -> None:
    done = subprocess.run(
        command("--discover", *arguments), capture_output=True, text=True, check=True
    )
    catalog = json.loads(done.stdout)
    selected = [
        entry["tap_stream_id"]
        for entry in catalog["streams"]
        if any(
            not field["breadcrumb"] and field["metadata"].get("selected")
            for field in entry["metadata"]
        )
    ]
    assert selected == ["conversations"]


def test_the_connection_can_be_tested(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    output = run_tap(tmp_path, settings(sandbox(60)), None, None, "--test")
    assert output.exit_code == 0
    assert len(output.records()) == 1
    assert "The settings and the token work." in output.stderr
    assert "ERROR" not in output.stderr


def test_the_connection_test_fails_with_a_wrong_token(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    output = run_tap(
        tmp_path, settings(sandbox(60)) | {"access_token": "another"}, None, None, "--test"
    )
    assert output.exit_code == 1
    assert "The access token is wrong" in output.stderr
    assert "Traceback" not in output.stderr


def test_the_connection_test_names_a_wrong_setting(tmp_path: Path) -> None:
    output = run_tap(tmp_path, {"access_token": TOKEN, "page_size": 0}, None, None, "--test")
    assert output.exit_code == 1
    assert "page_size" in output.stderr
    assert "Traceback" not in output.stderr
