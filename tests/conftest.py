from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox import Account, Sandbox
from tests.sandbox.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox.server import Cursor


@pytest.fixture(params=["offset", "id", "keyset"])
def cursor(request: pytest.FixtureRequest) -> Cursor:
    """Every form that Drift's cursors may have."""
    form: Cursor = request.param
    return form


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Serve an account; several, if asked several times."""
    running: list[Sandbox] = []

    def serve(
        conversations: int | Account = 0, cursor: Cursor = "offset", latency: float = 0.0
    ) -> Sandbox:
        account = Account(conversations) if isinstance(conversations, int) else conversations
        running.append(Sandbox(account, cursor=cursor, latency=latency).__enter__())
        return running[-1]

    yield serve
    for one in running:
        one.__exit__()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    with postgres(folder) as url:
        yield url
