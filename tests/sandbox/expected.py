"""What the tap has to make of what Drift sends: written apart from the tap, on purpose."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sandbox.account import Account

TIMES = {"createdAt", "updatedAt", "createDateTime", "updateDateTime", "conversationUpdatedAt"}


def as_time(milliseconds: int) -> str:
    """Milliseconds since 1970, as they leave the tap."""
    seconds, thousandths = divmod(milliseconds, 1000)
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{thousandths:03d}Z"
    )


def as_record(row: dict[str, Any]) -> dict[str, Any]:
    """A row, as it leaves the tap."""
    return {name: as_time(value) if name in TIMES else value for name, value in row.items()}


def expected(account: Account, stream: str = "conversations") -> dict[int | str, dict[str, Any]]:
    """All records of a stream, by key."""
    rows = _rows(account, stream)
    key = "accountId" if stream == "accounts" else "id"
    return {row[key]: as_record(row) for row in rows}


def _rows(account: Account, stream: str) -> list[dict[str, Any]]:
    conversations = list(account.conversations.values())
    if stream == "conversations":
        return conversations
    if stream == "conversation_details":
        return [account.detail(id_) for id_ in account.conversations]
    if stream == "messages":
        return [
            message | {"conversationUpdatedAt": conversation["updatedAt"]}
            for conversation in conversations
            for message in account.messages(conversation["id"])
        ]
    if stream == "contacts":
        newest: dict[int, int] = {}
        for row in conversations:
            newest[row["contactId"]] = max(row["updatedAt"], newest.get(row["contactId"], 0))
        return [
            (account.contact(id_) or {}) | {"conversationUpdatedAt": time}
            for id_, time in newest.items()
        ]
    rows: list[dict[str, Any]] = getattr(account, stream)()
    return rows
