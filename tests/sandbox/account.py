"""A Drift account in memory, which changes as time goes by."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]

STATUSES = {"open": 1, "closed": 2, "pending": 3}
FIRST_CONVERSATION = 3_900_000_000
FIRST_CONTACT = 17_100_000_000
FIRST_TIME = 1_760_000_000_000
ORG = 4242
PERSONAL = "a-text-that-a-person-wrote"
"""Stands in everything here that people write, so that a test can look for it in logs."""


class Account:
    """What one organisation has in Drift. Times are milliseconds since 1970."""

    def __init__(self, conversations: int = 0, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.now = FIRST_TIME
        self.conversations: dict[int, Row] = {}
        self.messages_in: dict[int, int] = {}
        self.contact_names: dict[int, str] = {}
        self._ids = FIRST_CONVERSATION
        self._listings: dict[frozenset[int], list[Row]] = {}
        for _ in range(conversations):
            self.begin()

    # Changes

    def pass_time(self, milliseconds: int | None = None) -> None:
        self.now += self._random.randint(1, 300_000) if milliseconds is None else milliseconds

    def begin(self, status: str | None = None, milliseconds: int | None = None) -> int:
        """A visitor begins a conversation; the clock moves on by so much."""
        self.pass_time(milliseconds)
        self._ids += self._random.randint(1, 5)
        self.conversations[self._ids] = {
            "id": self._ids,
            "contactId": FIRST_CONTACT + self._random.randint(1, 1 + len(self.conversations) // 2),
            "inboxId": 70_000 + self._random.randint(1, 3),
            "status": status or self._random.choice([*STATUSES, "bulk_sent"]),
            "createdAt": self.now,
            "updatedAt": self.now,
        }
        # Most conversations are short, some take several pages of 50 messages.
        self.messages_in[self._ids] = 120 if self._ids % 37 == 0 else self._ids % 7
        self._listings.clear()
        return self._ids

    def change(self, id_: int, status: str | None = None, milliseconds: int | None = None) -> None:
        """A message is posted, or the status changes."""
        self.pass_time(milliseconds)
        self.conversations[id_]["updatedAt"] = self.now
        self.messages_in[id_] += 1
        if status:
            self.conversations[id_]["status"] = status
        self._listings.clear()

    def delete(self, id_: int) -> None:
        del self.conversations[id_]
        del self.messages_in[id_]
        self._listings.clear()

    def move_on(self) -> None:
        """Some time passes: new, changed and closed conversations."""
        for _ in range(1 + len(self.conversations) // 100):
            self.begin()
            self.change(self._random.choice(list(self.conversations)))
            self.change(self._random.choice(list(self.conversations)), "closed")

    # What Drift shows

    def listing(self, status_ids: frozenset[int] = frozenset()) -> list[Row]:
        """Conversations, the most recently updated first, of equal times the smaller id first."""
        if status_ids not in self._listings:
            self._listings[status_ids] = sorted(
                (
                    row
                    for row in self.conversations.values()
                    if not status_ids or STATUSES.get(row["status"]) in status_ids
                ),
                key=lambda row: (-row["updatedAt"], row["id"]),
            )
        return self._listings[status_ids]

    def detail(self, id_: int) -> Row:
        """A conversation; its tags are absent if it has none."""
        row = self.conversations[id_] | {"participants": [501, 502][: id_ % 3], "orgId": ORG}
        if id_ % 2:
            row |= {"relatedPlaybookId": 63_001 + id_ % 4}
            row |= {"conversationTags": [{"color": "1A2B3C", "name": PERSONAL}]}
        return row

    def messages(self, id_: int) -> list[Row]:
        """The messages of a conversation, the oldest first; some have no text."""
        conversation = self.conversations[id_]
        return [self._message(conversation, number) for number in range(self.messages_in[id_])]

    def _message(self, conversation: Row, number: int) -> Row:
        by_user = number % 2 == 1
        message = {
            "id": conversation["id"] * 1000 + number,
            "conversationId": conversation["id"],
            "type": "private_note" if number % 5 == 4 else "chat",
            "author": {"id": 501, "type": "user", "bot": number % 4 == 1}
            if by_user
            else {"id": conversation["contactId"], "type": "contact"},
            "createdAt": conversation["createdAt"] + 1000 * number,
            "attributes": {"preMessages": [{"body": PERSONAL, "sender": {"id": 501}}]}
            if number == 0
            else {},
        }
        if number % 6 != 5:
            message["body"] = f"<p>{PERSONAL} &amp; {number}</p>"
        if number % 7 == 3:
            message["buttons"] = [{"label": "Yes", "value": "yes", "type": "reply"}]
            message["attachments"] = [
                {
                    "id": 9001,
                    "fileName": "a.pdf",
                    "mimeType": "application/pdf",
                    "url": "https://x/",
                }
            ]
        if number == 2:
            message |= {"type": "edit", "editedMessageId": message["id"] - 1, "orgId": ORG}
            message |= {"editType": "replace_body"}
        if not by_user:
            message["context"] = {"ip": "192.0.2.7", "location": {"city": PERSONAL}}
        return message

    def contact(self, id_: int) -> Row | None:
        """A contact of some conversation; two of its attributes differ only in case."""
        if not any(row["contactId"] == id_ for row in self.conversations.values()):
            return None
        attributes: Row = {"_END_USER_VERSION": 7, "_end_user_version": 8, "tags": [], "events": {}}
        if id_ % 3:
            attributes |= {"email": f"{PERSONAL}@example.com", "externalId": id_ % 2 or "cust-77"}
        attributes |= {"name": self.contact_names.get(id_, PERSONAL)}
        return {"id": id_, "createdAt": FIRST_TIME + id_ % 1000, "attributes": attributes}

    def users(self) -> list[Row]:
        return [
            {
                "id": 501 + number,
                "orgId": ORG,
                "name": f"{PERSONAL} {number}",
                "email": f"user{number}@example.com",
                "availability": "AVAILABLE",
                "role": "member",
                "alias": f"u{number}",
                "phone": "+1 555 0100",
                "locale": "en_US",
                "timeZone": "America/New_York",
                "avatarUrl": "https://example.com/avatar.png",
                "verified": True,
                "bot": number == 1,
                "createdAt": FIRST_TIME,
                "updatedAt": FIRST_TIME + number,
            }
            for number in range(12)
        ]

    def teams(self) -> list[Row]:
        return [
            {
                "id": 301 + number,
                "orgId": ORG,
                "workspaceId": "0f5c9a52-5d3c-4bb4-a36c-5a7a2b9f3a10",
                "name": f"Team {number}",
                "owner": 501,
                "members": [501, 502 + number],
                "status": "ENABLED",
                "main": number == 0,
                "autoOffline": False,
                "teamAvailabilityMode": "CUSTOM_HOURS",
                "responseTimerEnabled": True,
                "teamCsatEnabled": False,
                "updatedAt": FIRST_TIME + number,
            }
            for number in range(3)
        ]

    def accounts(self) -> list[Row]:
        return [
            {
                "accountId": f"{ORG}_company{number}.example",
                "ownerId": 501,
                "name": f"Company {number}",
                "domain": f"company{number}.example",
                "customProperties": [
                    {"label": "Seats", "name": "seats", "value": number, "type": "NUMBER"}
                ],
                "deleted": False,
                "targeted": number % 2 == 0,
                "createDateTime": FIRST_TIME,
                "updateDateTime": FIRST_TIME + number,
            }
            for number in range(150)
        ]

    def playbooks(self) -> list[Row]:
        return [
            {
                "id": 63_001 + number,
                "name": f"Playbook {number}",
                "orgId": ORG,
                "meta": {"anything": [number]},
                "createdAt": FIRST_TIME,
                "updatedAt": FIRST_TIME + number,
                "createdAuthorId": 501,
                "updatedAuthorId": 502,
                "interactionId": 7000 + number,
                "reportType": "BOOK_MORE_MEETINGS",
                "goals": [{"id": "5d8a6a0e-3b86-4f6e-9a58-6d6e9d6f2d11", "message": "Book"}],
            }
            for number in range(3)
        ]

    # Between two calls of the sandbox

    def save(self, path: Path) -> None:
        content = {
            "now": self.now,
            "ids": self._ids,
            "conversations": list(self.conversations.values()),
            "messages_in": list(self.messages_in.values()),
        }
        path.write_text(json.dumps(content))

    @classmethod
    def load(cls, path: Path) -> Account:
        content = json.loads(path.read_text())
        account = cls(seed=content["now"])
        account.now = content["now"]
        account._ids = content["ids"]
        account.conversations = {row["id"]: row for row in content["conversations"]}
        account.messages_in = dict(zip(account.conversations, content["messages_in"], strict=True))
        return account
