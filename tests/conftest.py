from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests.sandbox import Account, Sandbox
from tests.sandbox.listing import settings_of
from tests.sandbox.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.server import Way

for name in list(os.environ):  # what a developer's shell has exported is not what is tested
    if name.startswith(("TAP_DRIFT_", "TARGET_", "MELTANO_")):
        del os.environ[name]
# Each of the many processes that tests begin would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(tryfirst=True)  # marks are for `-m` to see
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL, and leave out what is large unless it is asked for."""
    for item in items:
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)
    if "orchestrators" not in config.option.markexpr:
        items[:] = [item for item in items if not item.get_closest_marker("orchestrators")]


@pytest.fixture(params=["offset", "id", "keyset", "links", "both"])
def cursor(request: pytest.FixtureRequest) -> Way:
    """Every form that Drift's cursors may have."""
    way: Way = request.param
    return way


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Serve an account; several, if asked several times.

    What is asked for as its cursor is a form of the list, or the kind of `next` of a list that
    has nothing but that.
    """
    running: list[Sandbox] = []

    def serve(
        conversations: int | Account = 0, cursor: Way = "offset", latency: float = 0.0, **more: Any
    ) -> Sandbox:
        account = Account(conversations) if isinstance(conversations, int) else conversations
        more = settings_of(cursor) | more
        running.append(Sandbox(account, latency=latency, **more).__enter__())
        return running[-1]

    yield serve
    for one in running:
        one.__exit__()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL."""
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """A database of its own for every test."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return postgres_server.replace("/postgres?", f"/{name}?")
