"""Settings: each is used, and each mistake is named in a line."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import command, run_command
from tests.sandbox import TOKEN
from tests.sandbox.expected import expected
from tests.tap import run_here, run_tap, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

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
    "emit_activate_version_messages",
}

BATCHES = {"encoding": {"format": "jsonl"}, "storage": {"root": "file:///nowhere"}}

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"access_token": None}, "--config FILE), or in the variable TAP_DRIFT_ACCESS_TOKEN (and --co"),
    ({"access_token": "a"}, "is shorter than 8"),
    ({"access_token": ""}, "access_token is empty"),
    ({"access_token": f"{TOKEN}\n"}, "access_token is empty, or has a space, a line break"),
    ({"access_token": [TOKEN]}, "access_token"),
    ({"start_date": "yesterday"}, "start_date 'yesterday' is no time"),
    ({"start_date": "1704067200000"}, "is no time"),
    ({"start_date": "2024"}, "is no time"),
    ({"start_date": 2024}, "start_date 2024 is no time. Write it like 2024-01-01"),
    ({"start_date": ["2024-01-01"]}, "is no time"),
    (
        {"statuses": ["open", "sent", "x"]},
        "list with some of open, closed, pending, and not ['open",
    ),
    ({"statuses": "open"}, "statuses has to be a list with some of open, closed, pending, and no"),
    ({"page_size": 0}, "page_size has to be a whole number from 1 to 50, and not 0."),
    ({"page_size": 51}, "page_size"),
    ({"page_size": 25.5}, "page_size"),
    ({"emit_activate_version_messages": "yes"}, "has to be true or false, and not 'yes'."),
    ({"concurrency": 0}, "concurrency"),
    ({"concurrency": 33}, "concurrency"),
    ({"requests_per_minute": 0}, "has to be a whole number of at least 1, and not 0."),
    ({"request_timeout": 0}, "request_timeout"),
    ({"request_timeout": 10**10}, "request_timeout"),
    ({"batch_config": {**BATCHES, "batch_size": 0}}, "batch_size 0 is less"),
    ({"max_retries": 21}, "max_retries"),
    ({"max_retries": -1}, "max_retries"),
    ({"lookback_seconds": -1}, "lookback_seconds"),
    ({"user_agent": 5}, "user_agent has to be text, and not 5."),
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
        ("config", "{", "/config: "),
        ("config", "[1]", "--config can't be read"),
        ("state", '{"book', "/state is no JSON of the shape"),
        ("state", '{"book', ". Take an older one, or none: then everything is read again."),
        ("state", "[]", "/state is no JSON of the shape"),
        ("state", '{"bookmarks": []}', "The state is damaged"),
        ("state", '{"bookmarks": {"conversations": "2024"}}', "The state is damaged"),
        ("catalog", "no", "/catalog is no JSON of the shape"),
        ("catalog", "[]", ". Write it anew with --discover."),
        ("catalog", '{"streams": null}', "/catalog is no JSON of the shape"),
        ("catalog", '{"streams": ["conversations"]}', "/catalog is no JSON of the shape"),
        ("catalog", '{"streams": [{"stream": "users"}]}', "/catalog is no JSON of the shape"),
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
    done = run_command(command(*arguments))
    assert named in done.stderr
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["config", "state", "catalog"])
def test_a_missing_file_is_named(tmp_path: Path, option: str) -> None:
    (config := tmp_path / "config.json").write_text("{}")
    done = run_command(command("--config", str(config), f"--{option}", str(tmp_path / "no.json")))
    assert "no.json" in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


WRONG = {
    "TAP_DRIFT_PAGE_SIZE": ["many", "25.5", "99"],
    "TAP_DRIFT_STATUSES": ['["opened"]'],
    "TAP_DRIFT_START_DATE": ["yesterday"],
    "TAP_DRIFT_STREAM_MAPS": ["{"],
    "TAP_DRIFT_ACCESS_TOKEN": ["a b"],
}


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_variable_that_is_wrong_is_named(variable: str, value: str) -> None:
    done = from_environment({"TAP_DRIFT_ACCESS_TOKEN": TOKEN, variable: value})
    (line,) = (line for line in done.stderr.splitlines() if "| ERROR" in line)
    assert variable in line
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_variable_of_a_missing_token_is_named() -> None:
    done = from_environment({"TAP_DRIFT_ACCESS_TOKEN": " "})
    assert "or in the variable TAP_DRIFT_ACCESS_TOKEN" in done.stderr
    assert done.returncode == 1


def from_environment(environment: dict[str, str]) -> CompletedProcess[str]:
    return run_command(command("--config", "ENV"), environment)


def test_an_empty_variable_is_not_set(sandbox: Callable[..., Sandbox]) -> None:
    drift = sandbox(3)
    of_all = {f"TAP_DRIFT_{name.upper()}": "" for name in NAMES}
    done = from_environment(
        of_all | {"TAP_DRIFT_ACCESS_TOKEN": TOKEN, "TAP_DRIFT_API_URL": drift.url}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"RECORD"') == 3
    assert drift.requests[0] == "/conversations/list?limit=50"


def test_a_variable_that_is_mistyped_is_warned_of_also_where_meltano_reads_it(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    (config := tmp_path / "config.json").write_text(json.dumps(settings(sandbox(1))))
    done = run_command(command("--config", str(config)), {"TAP_DRIFT_STARTDATE": "2024-01-01"})
    assert done.returncode == 0
    assert "Did you mean 'TAP_DRIFT_START_DATE'?" in done.stderr


def test_a_variable_that_is_mistyped_is_warned_of(sandbox: Callable[..., Sandbox]) -> None:
    done = from_environment(
        {
            "TAP_DRIFT_ACCESS_TOKEN": TOKEN,
            "TAP_DRIFT_API_URL": sandbox(1).url,
            "TAP_DRIFT_PAGESIZE": "7",
            "TAP_DRIFT__SELECT": "[]",
            "TAP_DRIFT_LOGLEVEL": "INFO",
            "TAP_DRIFT_GIT_BRANCH": "main",
        }
    )
    (line,) = (line for line in done.stderr.splitlines() if "There is no" in line)
    assert "'TAP_DRIFT_PAGESIZE'" in line
    assert "Did you mean 'TAP_DRIFT_PAGE_SIZE'?" in line
    assert done.returncode == 0


@pytest.mark.parametrize("variable", ["LOGLEVEL", "TAP_DRIFT_LOGLEVEL"])
@pytest.mark.parametrize("level", ["trace", "30", ""])
def test_a_log_level_of_another_tool(
    sandbox: Callable[..., Sandbox], tmp_path: Path, variable: str, level: str
) -> None:
    output = run_tap(tmp_path, settings(sandbox(3)), environment={variable: level})
    assert output.exit_code == 0, output.stderr
    assert len(output.records()) == 3
    assert (f"{variable} is {level!r}, which is no level" in output.stderr) == bool(level)
    assert "| INFO " in output.stderr
    assert "| DEBUG " not in output.stderr


@pytest.mark.parametrize("number", [25.0, "25.0"], ids=repr)
def test_a_whole_number_with_a_point_is_an_integer(
    sandbox: Callable[..., Sandbox], tmp_path: Path, number: float | str
) -> None:
    drift = sandbox(3)
    names = ("page_size", "concurrency", "requests_per_minute", "request_timeout")
    config: dict[str, Any] = {"access_token": TOKEN, "api_url": drift.url}
    given: dict[str, Any] = dict.fromkeys(names, number)
    given |= {"max_retries": "1.0", "lookback_seconds": "0.0"}
    if isinstance(number, str):
        environment = {f"TAP_DRIFT_{name.upper()}": str(value) for name, value in given.items()}
        arguments = ["--config=ENV"]
    else:
        environment, arguments = {}, []
        config |= {name: float(value) for name, value in given.items()}
    output = run_tap(tmp_path, config, None, None, *arguments, environment=environment)
    assert output.exit_code == 0, output.stderr
    assert drift.requests[0] == "/conversations/list?limit=25"
    assert len(output.records()) == 3


@pytest.mark.parametrize(
    "start_date", ["{}", "{}T00:00:00", "{}T00:00:00Z", "{}T02:00:00+02:00", "{} 00:00"]
)
def test_a_start_date_without_a_zone_is_in_utc(
    sandbox: Callable[..., Sandbox], tmp_path: Path, start_date: str
) -> None:
    drift = sandbox(500)
    times = sorted(row["updatedAt"] for row in expected(drift.account).values())
    day = times[-1][:10]
    config = settings(drift, start_date=start_date.format(day))
    output = run_tap(tmp_path, config, environment={"TZ": "America/New_York"})
    due = [time for time in times if time >= f"{day}T00:00:00.000Z"]
    assert 0 < len(due) < 500
    assert sorted(row["updatedAt"] for row in output.records()) == due
    assert output.bookmark()["covers"]["start_date"] == f"{day}T00:00:00.000Z"


def test_a_start_date_in_the_future_is_warned_of(
    sandbox: Callable[..., Sandbox], caplog: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(3)
    assert run_here(settings(drift, start_date="2099-01-01")).records() == []
    warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warned == [
        "start_date 2099-01-01T00:00:00.000Z lies in the future, so no conversation is read."
    ]
    caplog.clear()
    run_here(settings(drift, start_date="2020-01-01"))
    assert "future" not in caplog.text


def test_a_setting_that_does_not_exist_is_warned_of(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    config = settings(sandbox(1), page_sise=20, zebra=1, flattening_enabled=False, _select=["*.*"])
    output = run_tap(tmp_path, config)
    lines = [line for line in output.stderr.splitlines() if "There is no" in line]
    assert len(lines) == 2
    assert "setting 'page_sise': it does nothing. Did you mean 'page_size'?" in lines[0]
    assert lines[1].endswith("setting 'zebra': it does nothing.")
    assert output.exit_code == 0


def test_settings_come_from_the_environment(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    drift = sandbox(120)
    done = from_environment(
        {
            "TAP_DRIFT_ACCESS_TOKEN": TOKEN,
            "TAP_DRIFT_API_URL": drift.url,
            "TAP_DRIFT_PAGE_SIZE": "20",
            "TAP_DRIFT_STATUSES": '["closed"]',
        }
    )
    assert '"status":"closed"' in done.stdout
    assert '"status":"open"' not in done.stdout
    assert drift.requests[0] == "/conversations/list?limit=20&statusId=2"


def test_a_setting_that_is_null_has_its_default(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    drift = sandbox(3)
    about = json.loads(run_command(command("--about", "--format=json")).stdout)
    output = run_tap(tmp_path, dict.fromkeys(about["settings"]["properties"]) | settings(drift))
    assert output.exit_code == 0, output.stderr
    assert len(output.records()) == 3


def test_about_names_every_setting_with_title_and_description() -> None:
    done = run_command(command("--about", "--format=json"))
    about = json.loads(done.stdout)
    own = {name: about["settings"]["properties"][name] for name in NAMES}
    assert all(setting["title"] and setting["description"] for setting in own.values())
    assert own["access_token"]["secret"]
    assert about["settings"]["required"] == ["access_token"]


@pytest.mark.parametrize("arguments", [[], ["--config=ENV"]])
def test_discovery_needs_no_token(arguments: list[str]) -> None:
    done = run_command(command("--discover", *arguments))
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
