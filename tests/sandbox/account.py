"""A Drift account in memory, which changes as time goes by."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Self

from tests.sandbox.items import FIRST_CONTACT, STATUSES, Items
from tests.sandbox.organisation import FIRST_TIME, ORG, PERSONAL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.organisation import Row

__all__ = ["FIRST_TIME", "ORG", "PERSONAL", "STATUSES", "Account"]

FIRST_CONVERSATION = 3_900_000_000


class Account(Items):
    """What one organisation has in Drift. Times are milliseconds since 1970.

    Attributes:
        now: What time it is.
    """

    def __init__(self, conversations: int = 0, seed: int = 1) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self.now = FIRST_TIME
        self._hidden: set[int] = set()
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

    def date(self, id_: int, updated_at: int) -> None:
        """Give a conversation a time that the clock does not show: of the future, or absurd."""
        self.conversations[id_]["updatedAt"] = updated_at
        self._listings.clear()

    def hide(self, id_: int) -> None:
        """Keep a conversation out of the list until it appears."""
        self._hidden.add(id_)
        self._listings.clear()

    def appear(self, id_: int) -> None:
        """Let a hidden conversation into the list, late, at the place of its time."""
        self._hidden.discard(id_)
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
                    if row["id"] not in self._hidden
                    and (not status_ids or STATUSES.get(row["status"]) in status_ids)
                ),
                key=lambda row: (-row["updatedAt"], row["id"]),
            )
        return self._listings[status_ids]

    # Between two calls of the sandbox

    def save(self, path: Path) -> None:
        content = {
            "org": self.org,
            "now": self.now,
            "ids": self._ids,
            "conversations": list(self.conversations.values()),
            "messages_in": list(self.messages_in.values()),
        }
        path.write_text(json.dumps(content))

    @classmethod
    def load(cls, path: Path) -> Self:
        content = json.loads(path.read_text())
        account = cls(seed=content["now"])
        account.org = content.get("org", ORG)
        account.now = content["now"]
        account._ids = content["ids"]
        account.conversations = {row["id"]: row for row in content["conversations"]}
        account.messages_in = dict(zip(account.conversations, content["messages_in"], strict=True))
        return account
