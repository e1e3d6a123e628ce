"""Two years of an account as it might be: office hours, seasons, bots, people, many languages."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from typing import TYPE_CHECKING, Self

from tests.sandbox.account import Account
from tests.sandbox.items import DAY, FIRST_CONTACT
from tests.sandbox.people import BEGINNING
from tests.sandbox.stories import CONTACT, HOUR, LOADS, SEASONS, Line, story
from tests.sandbox.talks import Talks
from tests.sandbox.words import TOPICS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.organisation import Row

DAYS = 730
HOURS = (2, 1, 1, 1, 2, 3, 6, 14, 30, 44, 48, 44, 36, 42, 48, 46, 40, 30, 20, 15, 12, 9, 6, 4)
"""How many conversations begin in an hour of the day, from midnight on."""

WEEKDAYS = (100, 110, 105, 100, 80, 14, 18)
"""And on a day of the week, from Monday on."""

RECENT = 200
"""How many of the newest conversations still change."""


class LifelikeAccount(Talks, Account):
    """An account for people to look at; the same for the same seed.

    What belongs to conversations is put into words when it is asked for. Serve it with its own
    `clock`, or the month is over in which Drift shows meetings.
    """

    def __init__(self, conversations: int = 0, seed: int = 1) -> None:
        super().__init__()
        self.seed = seed
        self._random = random.Random(seed)
        self.now = BEGINNING + DAYS * DAY
        self._contacts: list[int] = []
        self._arrive(conversations, BEGINNING, DAYS)

    def clock(self) -> dt.datetime:
        """What time it is in the account."""
        return dt.datetime.fromtimestamp(-(-self.now // 1000), dt.UTC)

    # Changes

    def begin(self, status: str | None = None, milliseconds: int | None = None) -> int:
        self.pass_time(milliseconds)
        id_ = self._begin(self.now)
        if status:
            self.conversations[id_]["status"] = status
            self._posted[id_] = []
        self._listings.clear()
        return id_

    def change(self, id_: int, status: str | None = None, milliseconds: int | None = None) -> None:
        """A message is posted, or the status changes; who writes to a colleague reopens."""
        self.pass_time(milliseconds)
        row = self.conversations[id_] | {"updatedAt": self.now, "status": status or "open"}
        self.conversations[id_] = row
        posted = self._posted.setdefault(id_, [])  # from here on its story does not go on
        if not status:
            lines = self._lines(id_)
            colleague = next((line.author for line in lines[::-1] if line.author in LOADS), 501)
            line = Line(self.now, CONTACT, "reply")
            if lines[-1].author == CONTACT:
                line = Line(self.now, colleague, "more")
            posted.append(line)
            self.messages_in[id_] += 1
        self._listings.clear()

    def move_on(self) -> None:
        """A day passes: new conversations, and what becomes of those of the days before."""
        since = -(-self.now // DAY) * DAY
        self.now = since + DAY
        number = 1 + len(self.conversations) // 100
        for id_ in list(self.conversations)[-RECENT:]:
            if id_ not in self._posted:
                self.conversations[id_] |= self._state(id_)
        self._arrive(number, since, 1)
        recent = list(self.conversations)[-RECENT:]
        for _ in range(number):
            self.change(self._random.choice(recent))
            self.change(self._random.choice(recent), "closed")

    def _arrive(self, number: int, since: int, days: int) -> None:
        """Visitors begin so many conversations in so many days."""
        starts = [since + day * DAY for day in range(days)]
        chance = self._random
        weights = list(itertools.accumulate(map(_how_busy, starts)))
        picked = chance.choices(starts, cum_weights=weights, k=number)
        hours = chance.choices(range(24), HOURS, k=number)
        for began in sorted(
            day + hour * HOUR + int(chance.random() * HOUR)
            for day, hour in zip(picked, hours, strict=True)
        ):
            self._begin(began)
        self._listings.clear()

    def _begin(self, began: int) -> int:
        self._ids = id_ = self._ids + self._random.randint(1, 5)
        self._stories[id_] = told = story(self.seed, id_, began)
        self.conversations[id_] = {
            "id": id_,
            "contactId": self._visitor(began),
            "inboxId": 70_001 + TOPICS.index(told.topic) // 2,
            "createdAt": began,
        } | self._state(id_)
        return id_

    def _state(self, id_: int) -> Row:
        """What has become of a conversation by now, if nobody meddles."""
        told = self._stories[id_]
        shown = [line for line in told.lines if line.at <= self.now]
        self.messages_in[id_] = len(shown)
        if len(shown) < len(told.lines) or told.ends > self.now:
            return {"status": "open", "updatedAt": shown[-1].at}
        updated = told.ends if told.status == "closed" else shown[-1].at
        return {"status": told.status, "updatedAt": updated}

    def _visitor(self, began: int) -> int:
        """Somebody who was there before, or somebody new."""
        if self._contacts and self._random.random() < 0.3:
            return self._random.choice(self._contacts[-RECENT:])
        before = self._contacts[-1] if self._contacts else FIRST_CONTACT
        self._contacts.append(id_ := before + self._random.randint(1, 9))
        self._known_since[id_] = began
        return id_

    # Between two calls of the sandbox

    def save(self, path: Path) -> None:
        content = {
            "org": self.org,
            "seed": self.seed,
            "now": self.now,
            "ids": self._ids,
            "conversations": list(self.conversations.values()),
            "messages_in": list(self.messages_in.values()),
            "posted": list(self._posted.items()),
            "known_since": list(self._known_since.items()),
        }
        path.write_text(json.dumps(content))

    @classmethod
    def load(cls, path: Path) -> Self:
        content = json.loads(path.read_text())
        account = cls(seed=content["seed"])
        account._random = random.Random(content["now"])
        account.org = content["org"]
        account.now = content["now"]
        account._ids = content["ids"]
        account.conversations = {row["id"]: row for row in content["conversations"]}
        account.messages_in = dict(zip(account.conversations, content["messages_in"], strict=True))
        account._posted = {id_: [Line(*line) for line in lines] for id_, lines in content["posted"]}
        account._known_since = dict(content["known_since"])
        account._contacts = list(account._known_since)
        account._stories = {
            id_: story(account.seed, id_, row["createdAt"])
            for id_, row in account.conversations.items()
        }
        return account


def _how_busy(day: int) -> float:
    """How much is going on on a day: by season and weekday, and ever more."""
    date = dt.datetime.fromtimestamp(day // 1000, dt.UTC)
    growth = 1 + 0.5 * (day - BEGINNING) / (DAYS * DAY)
    return SEASONS[date.month - 1] * WEEKDAYS[date.weekday()] * growth
