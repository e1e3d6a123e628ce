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
ORG = 4242
PERSONAL = "a-text-that-a-person-wrote"
"""Stands in everything here that people write, so that a test can look for it in logs."""


class Account:
    """What one organisation has in Drift. Times are milliseconds since 1970."""

    def __init__(self, conversations: int = 0, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.now = 1_760_000_000_000
        self.conversations: dict[int, Row] = {}
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
        self._listings.clear()
        return self._ids

    def change(self, id_: int, status: str | None = None, milliseconds: int | None = None) -> None:
        """A message is posted, or the status changes."""
        self.pass_time(milliseconds)
        self.conversations[id_]["updatedAt"] = self.now
        if status:
            self.conversations[id_]["status"] = status
        self._listings.clear()

    def delete(self, id_: int) -> None:
        del self.conversations[id_]
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

    # Between two calls of the sandbox

    def save(self, path: Path) -> None:
        content = {
            "now": self.now,
            "ids": self._ids,
            "conversations": list(self.conversations.values()),
        }
        path.write_text(json.dumps(content))

    @classmethod
    def load(cls, path: Path) -> Account:
        content = json.loads(path.read_text())
        account = cls(seed=content["now"])
        account.now = content["now"]
        account._ids = content["ids"]
        account.conversations = {row["id"]: row for row in content["conversations"]}
        return account
