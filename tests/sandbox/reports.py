"""Drift's reports: the only call that asks for conversations by date, and a POST."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from tests.sandbox.answer import as_json, error

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

    from tests.sandbox.organisation import Row
    from tests.sandbox.server import Sandbox

METRICS = (
    "createdAt",
    "lastAgentId",
    "endUserId",
    "timeToCloseMillis",
    "timeToAgentResponseMillis",
    "firstAgentMessageAt",
    "firstCloseAt",
    "relatedPlaybookId",
    "numAgentMessages",
    "numBotMessages",
    "numEndUserMessages",
)


@dataclasses.dataclass
class Reports:
    """How reports are answered.

    Attributes:
        nan: What stands for a metric that is missing; a float is written as a bare NaN.
        rows: How many rows an answer has at most, whatever its `count`; `None` for all.
        calls: How many calls are answered in so many seconds, before there is a 429.
        seconds: That time.
        asked: The bodies of all calls that were answered.
    """

    nan: str | float = "NaN"
    rows: int | None = None
    calls: int = 60
    seconds: float = 60.0
    asked: list[Any] = dataclasses.field(default_factory=list)
    _times: list[float] = dataclasses.field(default_factory=list)

    def too_many(self) -> bool:
        """Count a call, unless it is one too many."""
        now = time.monotonic()
        self._times = [before for before in self._times if before > now - self.seconds]
        if len(self._times) >= self.calls:
            return True
        self._times.append(now)
        return False


def report(sandbox: Sandbox, request: Request) -> Response:
    """Metrics of conversations by position, as they were asked for."""
    reports, account = sandbox.reports, sandbox.account
    if reports.too_many():
        return error(429, "rate_limit", "Too many calls of the reporting API")
    body: Any = request.get_json(force=True, silent=True)
    try:
        filters, names = body["filters"], body["metrics"]
        if not set(names) <= set(METRICS):
            return error(400, "validation_error", "No such metric")
        found = [
            row for row in account.conversations.values() if all(_fits(row, one) for one in filters)
        ]
    except (KeyError, TypeError, ValueError):
        return error(400, "validation_error", "Not a report")
    reports.asked.append(body)
    data = []
    for row in found[: reports.rows]:
        metrics = account.metrics(row["id"])
        values = [metrics.get(name, reports.nan) for name in names]
        data.append({"conversationId": row["id"], "metrics": values})
    return as_json({"count": len(found), "data": data})


def _fits(row: Row, filter_: dict[str, Any]) -> bool:
    """Whether a row passes a filter; both ends of BETWEEN do."""
    value = row[filter_["property"]]
    if filter_["operation"] == "IN":
        return value in filter_["values"]
    first, last = filter_["values"]
    if filter_["operation"] != "BETWEEN" or not isinstance(first, int) or not isinstance(last, int):
        raise ValueError(filter_)
    return bool(first <= value <= last)
