"""One run after another, and what a target and a user get of them."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.sandbox.expected import as_time, expected
from tests.sandbox.server import answers, error
from tests.tap import NO_WALK, Output, run_here, selecting, settings, upserted

if TYPE_CHECKING:
    import pytest

    from tests.sandbox import Sandbox
    from tests.tap import Json

REFUSED = answers(error(401, "authentication_error", "The access token is invalid"))


def said(log: pytest.LogCaptureFixture) -> list[str]:
    """What the tap itself said, but for how a run begins and ends."""
    found = [
        record.getMessage()
        for record in log.records
        if record.name.startswith("tap-drift") and record.getMessage().startswith("conversations:")
    ]
    return [
        line
        for line in found
        if not re.search("; floor: |: read to the end: |: read, but for some: ", line)
    ]


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


class Run:
    """An account, and a target that gets what one run after another writes."""

    def __init__(self, drift: Sandbox, stream: str = "conversations") -> None:
        self.drift = drift
        self.stream = stream
        self.catalog = None if stream == "conversations" else selecting(stream)
        self.state: Json | None = None
        self.target: dict[Any, Json] = {}
        self.requests: list[str] = []
        """Those of the last run."""

    def here(self, exit_code: int = 0, **config: Any) -> Output:
        before = len(self.drift.requests)
        output = run_here(settings(self.drift, **config), self.state, self.catalog)
        self.requests = self.drift.requests[before:]
        assert output.exit_code == exit_code
        self.state = output.state
        self.target = upserted(self.target, output.records(self.stream), self.stream)
        return output

    def interrupted(self, at: int, **config: Any) -> Output:
        """A run whose nth request is refused."""
        self.drift.faults[len(self.drift.requests) + at] = REFUSED
        output = self.here(1, **config)
        self.drift.faults.clear()
        assert output.bookmark(self.stream)["walk"]["cursor"]
        return output

    def asked(self, parameter: str) -> list[str | None]:
        """What the requests of the last run had for a parameter."""
        queries = [parse_qs(urlsplit(one).query, keep_blank_values=True) for one in self.requests]
        return [query.get(parameter, [None])[0] for query in queries]

    @property
    def is_complete(self) -> bool:
        """Whether the target holds each row of the account as it is now."""
        account = expected(self.drift.account, self.stream)
        return {id_: self.target.get(id_) for id_ in account} == account

    @property
    def bookmark_is_newest(self) -> bool:
        """Whether the bookmark is where the list begins, or began."""
        assert self.state
        bookmark: Json = self.state["bookmarks"][self.stream]
        newest = newest_first_times(self.drift)[0]
        return bool(bookmark["walk"] == NO_WALK and bookmark["replication_key_value"] >= newest)


def newest_first_times(drift: Sandbox) -> list[str]:
    return [as_time(row["updatedAt"]) for row in drift.account.listing()]
