"""What the tap has to make of what Drift sends: written apart from the tap, on purpose."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

from tests.sandbox.items import DAY
from tests.sandbox.reports import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.account import Account

TIMES = {
    "conversationUpdatedAt",
    "createDateTime",
    "createdAt",
    "firstAgentMessageAt",
    "firstCloseAt",
    "scheduledAt",
    "slotEnd",
    "slotStart",
    "updateDateTime",
    "updatedAt",
}
KEYS = {
    "accounts": "accountId",
    "attachments": ("messageId", "position"),
    "booked_meetings": "meetingKey",
    "contact_attributes": "name",
    "conversation_metrics": "conversationId",
    "conversation_stats": "status",
    "landing_pages": ("playbookId", "landingPageUrl"),
    "transcripts": "conversationId",
}
"""What tells the records of a stream apart, where it is not `id`; of counts, those of one time."""


def as_time(milliseconds: int) -> str:
    """Milliseconds since 1970, as they leave the tap."""
    seconds, thousandths = divmod(milliseconds, 1000)
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{thousandths:03d}Z"
    )


def as_record(row: dict[str, Any]) -> dict[str, Any]:
    """A row, as it leaves the tap."""
    return {
        name: as_time(value) if name in TIMES and value is not None else value
        for name, value in row.items()
    }


def expected(account: Account, stream: str = "conversations") -> dict[Any, dict[str, Any]]:
    """All records of a stream, by key; where the key has several fields, by a tuple of them."""
    key = KEYS.get(stream, "id")
    rows = _items(account, stream) if stream in ITEMS else _rows(account, stream)
    if isinstance(key, str):
        return {row[key]: as_record(row) for row in rows}
    return {tuple(row[name] for name in key): as_record(row) for row in rows}


def _rows(account: Account, stream: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]]
    conversations = list(account.conversations.values())
    if stream == "conversations":
        return conversations
    if stream == "conversation_details":
        return [account.detail(id_) for id_ in account.conversations]
    if stream == "booked_meetings":
        since = account.now - 30 * DAY
        rows = [row for row in account.meetings() if row["slotStart"] >= since]
        return [row | {"meetingKey": _meeting_key(row)} for row in rows]
    if stream == "conversation_metrics":
        nothing = dict.fromkeys(METRICS)
        return [
            {"conversationId": id_} | nothing | account.metrics(id_)
            for id_ in account.conversations
        ]
    if stream == "contacts":
        newest: dict[int, int] = {}
        for row in conversations:
            newest[row["contactId"]] = max(row["updatedAt"], newest.get(row["contactId"], 0))
        return [_contact(account, id_, time) for id_, time in newest.items()]
    if stream == "conversation_stats":
        rows = [{"status": status, "count": count} for status, count in account.stats().items()]
    else:
        rows = getattr(account, stream)()
    return rows


def _meeting_key(row: dict[str, Any]) -> str:
    joined = f"{row['agentId']}-{row['slotStart']}-{row['schedulerId']}"
    key: str = row.get("slug") or row.get("eventId") or joined
    return key


def _items(account: Account, stream: str) -> list[dict[str, Any]]:
    """What belongs to conversations."""
    return [
        item | {"conversationUpdatedAt": conversation["updatedAt"]}
        for conversation in account.conversations.values()
        for item in ITEMS[stream](account, conversation["id"])
    ]


def _attachments(account: Account, id_: int) -> list[dict[str, Any]]:
    return [
        _attachment(account, message, position, attachment)
        for message in account.messages(id_)
        for position, attachment in enumerate(message.get("attachments", []))
    ]


def _attachment(
    account: Account, message: dict[str, Any], position: int, attachment: dict[str, Any]
) -> dict[str, Any]:
    content = account.file(attachment["id"]) or b""
    return {
        "id": attachment["id"],
        "conversationId": message["conversationId"],
        "messageId": message["id"],
        "position": position,
        "fileName": attachment["fileName"],
        "mimeType": attachment["mimeType"],
        "url": attachment["url"],
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content": base64.b64encode(content).decode(),
    }


ITEMS: dict[str, Callable[[Account, int], list[dict[str, Any]]]] = {
    "attachments": _attachments,
    "messages": lambda account, id_: account.messages(id_),
    "transcripts": lambda account, id_: [
        {"conversationId": id_, "transcript": account.transcript(id_)}
    ],
}


def _contact(account: Account, id_: int, time: int) -> dict[str, Any]:
    """A contact; its `externalId` is text, whatever people handed to Drift."""
    contact = account.contact(id_) or {}
    attributes = dict(contact["attributes"])
    if "externalId" in attributes:
        attributes["externalId"] = str(attributes["externalId"])
    return contact | {"attributes": attributes, "conversationUpdatedAt": time}
