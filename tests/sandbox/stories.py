"""What happens in a conversation: made up from its seed, its id and its beginning alone."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, NamedTuple

from tests.sandbox.items import DAY
from tests.sandbox.words import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND, MINUTE, HOUR = 1000, 60_000, 60 * 60_000
WELCOME_BOT, NIGHT_BOT = 601, 602
BOTS = {WELCOME_BOT, NIGHT_BOT}
CONTACT = 0
"""Stands for the contact where others have their user's id."""

LOADS = {501: 30, 502: 22, 503: 16, 504: 12, 505: 9, 506: 7, 507: 4}
"""How much of a hundred conversations each colleague takes over; 508 never does."""

WAITS = {501: 4, 502: 3, 503: 9, 504: 6, 505: 14, 506: 5, 507: 25}
"""How many minutes each of them takes to answer, roughly."""

SEASONS = (90, 105, 115, 105, 95, 90, 70, 55, 105, 120, 130, 60)
"""How much is going on in a month, January first; 100 is as usual."""

PLAYBOOKS = {63_001: 40, 63_002: 22, 63_003: 18, 63_004: 12, 63_005: 8}
"""How often each playbook begins a conversation."""

MONTH = 30 * DAY + 10 * HOUR + 30 * MINUTE
OPENS, CLOSES = 8 * HOUR, 18 * HOUR


class Line(NamedTuple):
    """A message, before it is put into words."""

    at: int
    author: int
    occasion: str


@dataclasses.dataclass(frozen=True, slots=True)
class Story:
    """What happens, were there time enough.

    Attributes:
        topic: What it is about.
        playbook: Which playbook began it, if one did.
        lines: The messages.
        status: What the conversation is in the end.
        ends: When it gets that status, in milliseconds since 1970.
        meeting: When the meeting begins that was booked, if one was.
    """

    topic: str
    playbook: int | None
    lines: list[Line]
    status: str
    ends: int
    meeting: int | None = None


def story(seed: int, id_: int, began: int) -> Story:
    """What happens in the conversation with this id, which began then."""
    chance = random.Random(seed * 1_000_003 + id_)
    topic = TOPICS[int(chance.random() ** 1.4 * len(TOPICS))]
    playbook, at, lines = None, began, []
    if chance.random() < 0.8:
        playbook = chance.choices(list(PLAYBOOKS), list(PLAYBOOKS.values()))[0]
        lines.append(Line(at, _bot(at), "hello"))
        if chance.random() < 0.13:  # the visitor never answers
            return Story(topic, playbook, lines, "bulk_sent", at)
        at += chance.randint(4, 90) * SECOND
    lines.append(Line(at, CONTACT, "question"))
    outcome = chance.random()
    if outcome < 0.2:
        return _by_a_bot(chance, topic, playbook, lines)
    if outcome > 0.26:
        occasion = "handover" if opening(at) == at else "later"
        lines.append(Line(at + 2 * SECOND, _bot(at), occasion))
    if outcome > 0.32:
        return _by_people(chance, topic, playbook, lines)
    # Nobody answers, in half the cases not even a bot.
    if chance.random() < 0.4:
        at += chance.randint(5, 600) * MINUTE
        lines.append(Line(at, CONTACT, "reply"))
    status = "closed" if chance.random() < 0.6 else "open"
    return Story(topic, playbook, lines, status, at + 7 * DAY)


def opening(at: int) -> int:
    """The time itself in office hours, else when the office opens next."""
    day, time = divmod(at, DAY)
    if time >= CLOSES:
        day, time = day + 1, 0
    if (weekday := (day + 3) % 7) > 4:  # 1970 began on a Thursday
        day, time = day + 7 - weekday, 0
    return day * DAY + max(time, OPENS)


def _bot(at: int) -> int:
    return WELCOME_BOT if opening(at) == at else NIGHT_BOT


def _by_a_bot(chance: random.Random, topic: str, playbook: int | None, lines: list[Line]) -> Story:
    at = lines[-1].at + chance.randint(2, 5) * SECOND
    lines.append(Line(at, _bot(at), "answer"))
    if chance.random() < 0.5:
        at += chance.randint(10, 120) * SECOND
        lines.append(Line(at, CONTACT, "thanks"))
    return Story(topic, playbook, lines, "closed", at + 30 * MINUTE)


def _by_people(chance: random.Random, topic: str, playbook: int | None, lines: list[Line]) -> Story:
    agent = chance.choices(list(LOADS), list(LOADS.values()))[0]
    # The busier the season, the longer the wait.
    wait = WAITS[agent] * SEASONS[lines[-1].at // MONTH % 12] / 100
    at = opening(lines[-1].at) + int((0.5 + chance.expovariate(1 / wait)) * MINUTE)
    lines.append(Line(at, agent, "answer"))
    # Most conversations are short, some take several pages of 50 messages.
    rounds = chance.randint(26, 60) if chance.random() < 0.01 else int(chance.expovariate(0.6))
    for line in _rounds(chance, rounds, at, agent):
        lines.append(line)
        at, agent = line.at, line.author or agent
    meeting = None
    if topic in {"demo", "pricing"} and chance.random() < 0.35:
        at += chance.randint(1, 10) * MINUTE
        lines.append(Line(at, agent, "booked"))
        day = opening(at + chance.randint(1, 12) * DAY) // DAY * DAY
        meeting = day + OPENS + chance.randint(0, 18) * 30 * MINUTE
    outcome = chance.random()
    if outcome < 0.12:
        return Story(topic, playbook, lines, "pending" if outcome < 0.05 else "open", at, meeting)
    if outcome < 0.8:
        lines.append(Line(at + chance.randint(10, 400) * SECOND, CONTACT, "thanks"))
        lines.append(Line(at + chance.randint(410, 700) * SECOND, agent, "bye"))
    ends = lines[-1].at + chance.randint(1, 90) * MINUTE
    return Story(topic, playbook, lines, "closed", ends, meeting)


def _rounds(chance: random.Random, rounds: int, at: int, agent: int) -> Iterator[Line]:
    """Questions and answers; now and then with a file, a note, or by another colleague."""
    for _ in range(rounds):
        at += chance.randint(20, 900) * SECOND
        yield Line(at, CONTACT, "file" if chance.random() < 0.07 else "reply")
        luck = chance.random()
        if luck < 0.06:
            at += 30 * SECOND
            yield Line(at, agent, "note")
            agent = chance.choices(list(LOADS), list(LOADS.values()))[0]
        at = opening(at) + chance.randint(30, 1200) * SECOND
        yield Line(at, agent, "file" if luck > 0.95 else "more")
