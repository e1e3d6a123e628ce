"""A bookmark of one account is no bookmark of another."""

from __future__ import annotations

import json
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.expected import expected
from tests.sandbox.server import answers, error
from tests.tap import ACCOUNT, run_here, run_tap, selecting, settings, upserted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]

RENEWED = "another-token-of-the-same-people"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def with_token(drift: Sandbox, token: str = RENEWED, **config: Any) -> dict[str, Any]:
    drift.tokens.add(token)
    return settings(drift, **config) | {"access_token": token}


def test_while_the_token_is_the_same_nothing_is_asked(sandbox: Serve) -> None:
    drift = sandbox(60)
    catalog = selecting("conversations", "messages")
    first = run_here(settings(drift), None, catalog)
    assert drift.token_infos == 1  # for both streams
    assert first.bookmark()["covers"]["account"] == ACCOUNT
    assert first.bookmark("messages")["covers"]["account"] == ACCOUNT
    run_here(settings(drift), first.state, catalog)
    assert drift.token_infos == 1


def test_no_token_stands_in_state(sandbox: Serve) -> None:
    drift = sandbox(3)
    output = run_here(with_token(drift))
    assert RENEWED not in json.dumps(output.states)


def test_a_renewed_token_goes_on(sandbox: Serve, caplog: pytest.LogCaptureFixture) -> None:
    drift = sandbox(200)
    first = run_here(settings(drift))
    requests = len(drift.requests)
    second = run_here(with_token(drift), first.state)
    assert (drift.token_infos, len(drift.requests)) == (2, requests + 1)
    assert warnings(caplog) == []
    third = run_here(with_token(drift), second.state)
    assert drift.token_infos == 2
    assert third.state == second.state


@pytest.mark.parametrize("stream", ["conversations", "messages"])
def test_another_account_starts_over_in_one_warning(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, stream: str
) -> None:
    trial, real = sandbox(60), sandbox(40)
    real.account.org = 7001
    catalog = selecting(stream)
    state = run_here(settings(trial), None, catalog).state
    output = run_here(with_token(real), state, catalog)
    assert upserted({}, output.records(stream)) == expected(real.account, stream)
    (line,) = warnings(caplog)
    assert line == f"{stream}: the bookmark is of account 4242, the token of 7001: starting over."


def test_a_walk_of_another_account_is_not_finished(sandbox: Serve) -> None:
    trial, real = sandbox(200), sandbox(150)
    real.account.org = 7001
    trial.faults[4] = answers(error(401, "authentication_error", "No"))
    broken = run_here(settings(trial))
    assert broken.bookmark()["walk"]["cursor"]
    output = run_here(with_token(real), broken.state)
    assert upserted({}, output.records()) == expected(real.account)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_what_can_not_be_known_is_said_and_goes_on(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    drift = sandbox(60)
    drift.token_info_status = status
    first = run_here(settings(drift))
    assert first.bookmark()["covers"]["account"].startswith(":")
    assert warnings(caplog) == []
    second = run_here(with_token(drift), first.state)
    (line,) = warnings(caplog)
    assert "`meltano run --full-refresh`, or without --state." in line
    assert len(second.records()) == 1
    caplog.clear()
    run_here(with_token(drift), second.state)
    assert warnings(caplog) == []


@pytest.mark.parametrize("stream", ["conversations", "messages"])
@pytest.mark.parametrize("trouble", ["a wrong token", "nobody there", "a wait"])
def test_where_nothing_can_be_learnt_the_account_stays_known(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, trouble: str, stream: str
) -> None:
    drift, other = sandbox(60), sandbox(40)
    other.account.org = 7001
    catalog = selecting(stream)
    known = run_here(settings(drift), None, catalog)
    config = settings(drift) | {"access_token": RENEWED}
    if trouble == "nobody there":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config["api_url"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if trouble == "a wait":
        drift.tokens.add(RENEWED)
        drift.token_info_status = 429
    output = run_here(config, known.state, catalog)
    assert output.exit_code == (trouble != "a wait")
    assert output.bookmark(stream)["covers"]["account"] == ACCOUNT
    assert warnings(caplog)[1:] == []  # and the first is why it failed, if it did
    assert "account" not in "".join(warnings(caplog))
    caplog.clear()
    # The next run knows whose the bookmark is, as if nothing had been.
    assert run_here(settings(drift), output.state, catalog).exit_code == 0
    assert warnings(caplog) == []
    run_here(with_token(other), output.state, catalog)
    (line,) = warnings(caplog)
    assert "the bookmark is of account 4242, the token of 7001: starting over." in line


def test_state_of_the_first_edition_is_taken_over(
    sandbox: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(60)
    state = run_here(settings(drift)).state
    del state["bookmarks"]["conversations"]["covers"]["account"]
    output = run_here(settings(drift), state)
    assert len(output.records()) == 1
    assert output.bookmark()["covers"]["account"] == ACCOUNT
    assert warnings(caplog) == []


def test_asking_whose_token_it_is_costs_no_patience(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(3)
    drift.token_info_status = 401
    output = run_tap(tmp_path, settings(drift, max_retries=5))
    assert output.exit_code == 0
    assert drift.token_infos == 1
    assert "token_info" not in output.stderr
