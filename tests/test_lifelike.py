"""The account that is for people to look at: it holds together, and it is alive."""

from __future__ import annotations

import collections
import datetime as dt
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.expected import expected
from tests.sandbox.lifelike import LifelikeAccount
from tests.tap import KEYS

if TYPE_CHECKING:
    from pathlib import Path

    Json = dict[str, Any]

OPENS, CLOSES = 8, 19


def content(account: LifelikeAccount) -> dict[str, Any]:
    return {stream: expected(account, stream) for stream in KEYS}


@pytest.fixture(scope="module")
def account() -> LifelikeAccount:
    account = LifelikeAccount(600)
    for _ in range(3):
        account.move_on()
    account.change(account.begin())
    return account


@pytest.fixture(scope="module")
def streams(account: LifelikeAccount) -> dict[str, Any]:
    return content(account)


def test_it_is_the_same_for_the_same_seed() -> None:
    one, same, other = LifelikeAccount(50), LifelikeAccount(50), LifelikeAccount(50, seed=2)
    assert content(one) == content(same)
    assert expected(one) != expected(other)
    one.move_on()
    same.move_on()
    assert content(one) == content(same)


def test_it_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    account = LifelikeAccount(80)
    account.move_on()
    account.save(tmp_path / "account.json")
    one, other = (LifelikeAccount.load(tmp_path / "account.json") for _ in range(2))
    assert content(one) == content(account)
    one.move_on()
    other.move_on()
    assert content(one) == content(other)
    assert len(one.conversations) > len(account.conversations)
    newest = max(row["updatedAt"] for row in account.conversations.values())
    changed = [
        id_ for id_ in account.conversations if one.conversations[id_] != account.conversations[id_]
    ]
    assert changed
    assert all(one.conversations[id_]["updatedAt"] > newest for id_ in changed)


def test_what_is_named_exists(account: LifelikeAccount, streams: dict[str, Any]) -> None:
    conversations, users = streams["conversations"], streams["users"]
    assert {row["contactId"] for row in conversations.values()} == streams["contacts"].keys()
    for row in streams["messages"].values():
        conversation = conversations[row["conversationId"]]
        author = row["author"]
        if author["type"] == "contact":
            assert author["id"] == conversation["contactId"]
        else:
            assert users[author["id"]]["bot"] == author["bot"]
        assert conversation["createdAt"] <= row["createdAt"] <= conversation["updatedAt"]
    for row in streams["conversation_details"].values():
        assert row.get("relatedPlaybookId") in {None, *streams["playbooks"]}
        assert set(row["participants"]) <= users.keys()
    assert {row["playbookId"] for row in streams["landing_pages"].values()} <= streams[
        "playbooks"
    ].keys()
    assert {id_ for row in streams["teams"].values() for id_ in row["members"]} <= users.keys()
    companies = {row["name"] for row in streams["accounts"].values()}
    attributes = [row["attributes"] for row in streams["contacts"].values()]
    assert {one["employment_name"] for one in attributes if "employment_name" in one} <= companies
    assert account.meetings()
    for meeting in account.meetings():
        assert (
            account.conversations[meeting["conversationId"]]["contactId"] == meeting["schedulerId"]
        )
        assert meeting["agentId"] in users
        assert meeting["slotStart"] > meeting["scheduledAt"]
    assert all(row["content"] and row["size"] for row in streams["attachments"].values())


def test_counts_agree(streams: dict[str, Any]) -> None:
    by_conversation = collections.defaultdict(list)
    for row in streams["messages"].values():
        by_conversation[row["conversationId"]].append(row)
    for id_, metrics in streams["conversation_metrics"].items():
        messages = by_conversation[id_]
        chats = [row for row in messages if row["type"] == "chat"]
        people = [row for row in chats if row["author"].get("bot") is False]
        assert metrics["numBotMessages"] == sum(row["author"].get("bot", False) for row in chats)
        assert metrics["numAgentMessages"] == len(people)
        assert metrics["numEndUserMessages"] == sum(
            row["author"]["type"] == "contact" for row in chats
        )
        assert metrics["firstAgentMessageAt"] == (people[0]["createdAt"] if people else None)
        assert streams["transcripts"][id_]["transcript"].count("\n") == len(messages)
    statuses = collections.Counter(row["status"] for row in streams["conversations"].values())
    stats = {row["status"].lower(): row["count"] for row in streams["conversation_stats"].values()}
    assert {"open", "closed", "pending"} == stats.keys()
    assert statuses == stats | {"bulk_sent": statuses["bulk_sent"]}


def test_it_is_as_in_life(streams: dict[str, Any]) -> None:
    begun = [
        dt.datetime.fromisoformat(row["createdAt"]) for row in streams["conversations"].values()
    ]
    assert (max(begun) - min(begun)).days > 700
    assert sum(time.weekday() > 4 for time in begun) < len(begun) / 8
    months = collections.Counter(time.month for time in begun)
    assert months[11] > 1.5 * months[8]

    messages = list(streams["messages"].values())
    by = collections.Counter(row["author"]["id"] for row in messages if row["type"] == "chat")
    assert by[501] > 3 * by[507] > 0
    assert not by[508]
    for row in messages:
        if row["author"].get("bot") is False and row["createdAt"] < "2026-10-01":
            time = dt.datetime.fromisoformat(row["createdAt"])
            assert time.weekday() < 5
            assert OPENS <= time.hour < CLOSES

    letters = {letter for row in messages for letter in row.get("body", "") if letter.isalpha()}
    scripts = {unicodedata.name(letter).partition(" ")[0] for letter in letters}
    assert scripts >= {"LATIN", "CYRILLIC", "ARABIC", "HIRAGANA", "CJK", "DEVANAGARI"}
    assert max(collections.Counter(row["conversationId"] for row in messages).values()) > 50
    names = {row["fileName"] for row in streams["attachments"].values()}
    assert names == {"screen.png", "offer.csv", "notes.txt"}
    tags = [row.get("conversationTags", []) for row in streams["conversation_details"].values()]
    assert {tag["name"] for some in tags for tag in some} > {"bug", "billing", "vip"}
