"""Items that can't be read, and rows without a key: nothing stops for good because of them."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tap_drift.owed import FAILURES_TOLERATED, MOST_OWED
from tests.sandbox.expected import as_time, expected
from tests.sandbox.server import (
    answers,
    as_json,
    edited,
    error,
    first_of,
    html,
    items_never_load,
    since,
)
from tests.tap import NO_WALK, Output, Target, lines, run_here, selecting, settings, upserted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from werkzeug.wrappers import Request, Response

    from tests.sandbox import Account, Sandbox
    from tests.sandbox.server import Fault, Way
    from tests.tap import Json

    Serve = Callable[..., Sandbox]

STREAMS = ["messages", "contacts", "conversation_details"]


def no_id(drift: Sandbox, request: Request) -> Response:
    """Forget the id of the item, or of the first one."""
    body = json.loads(drift.answer(request).get_data())
    data = body["data"]
    (data["messages"][0] if "messages" in data else data).pop("id")
    return as_json(body)


BROKEN = answers(error(500, "internal_error", "It broke"))
FORBIDDEN = answers(error(403, "authentication_error", "Not you"))

POISONS: dict[str, Fault] = {
    "500": BROKEN,
    "400": answers(error(400, "validation_error", "No")),
    "403": FORBIDDEN,
    "403 of a gateway": html(403),
    "410": answers(error(410, "gone", "Gone")),
    "HTML": html(200),
    "data is null": answers(as_json({"data": None})),
    "data is empty": answers(as_json({"data": {}})),
    "no id": no_id,
}

every_stream = pytest.mark.parametrize("stream", STREAMS)
every_concurrency = pytest.mark.parametrize("concurrency", [1, 8])


class Runs:
    """An account, and a target that gets what one run after another writes."""

    def __init__(self, drift: Sandbox, stream: str, **config: Any) -> None:
        self.drift = drift
        self.stream = stream
        self.config = {"page_size": 10} | config
        self.state: Json | None = None
        self.target: dict[Any, Json] = {}
        self.first_request = 0

    def run(self, target: Target | None = None, **config: Any) -> Output:
        self.first_request = len(self.drift.requests)
        config = settings(self.drift, **self.config | config)
        output = run_here(config, self.state, selecting(self.stream), target)
        self.target = upserted(self.target, output.records(self.stream), self.stream)
        self.state = output.state if output.states else self.state
        return output

    @property
    def in_order(self) -> list[int]:
        """The numbers in the items' paths, in the order of the list."""
        rows = self.drift.account.listing()
        field = "contactId" if self.stream == "contacts" else "id"
        return list(dict.fromkeys(row[field] for row in rows))

    @property
    def asked(self) -> list[int | None]:
        """What the last run asked for: the numbers in the paths, `None` for the list."""
        paths = [urlsplit(path).path for path in self.drift.requests[self.first_request :]]
        numbers = [path.split("/")[2] for path in paths]
        return [None if number == "list" else int(number) for number in numbers]

    @property
    def owed(self) -> dict[int, str | None]:
        assert self.state
        listed = self.state["bookmarks"][self.stream]["owed"]
        owed = {entry["id"]: entry["updatedAt"] for entry in listed}
        assert len(owed) == len(listed)
        return owed

    def due(self, without: Collection[int] = ()) -> dict[Any, Json]:
        """All records, but for those of some items."""
        of = "conversationId" if self.stream == "messages" else "id"
        records = expected(self.drift.account, self.stream)
        return {key: record for key, record in records.items() if record[of] not in without}

    def lacks(self, without: Collection[int] = ()) -> list[Any]:
        """What the target should have, and has not in the newest version.

        The contact may have come by way of another of its conversations where a walk resumed.
        """
        return [
            key
            for key, record in self.due(without).items()
            if (self.target.get(key) or {}) | self._way(record) != record
        ]

    def _way(self, record: Json) -> Json:
        key = "conversationUpdatedAt"
        return {key: record[key]} if self.stream == "contacts" else {}

    def healed(self, **config: Any) -> None:
        """Run once more with nothing wrong, and have the whole account."""
        self.drift.fault = None
        assert self.run(**config).exit_code == 0
        assert self.lacks() == []
        assert self.owed == {}
        assert self.state
        assert self.state["bookmarks"][self.stream]["walk"] == NO_WALK


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings and errors since it was called last."""

    def lines() -> list[str]:
        found = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert "Traceback" not in caplog.text
        caplog.clear()
        return found

    return lines


def talkative(account: Account) -> Account:
    """Let every conversation have messages, but no more than a page, and most a contact."""
    account.messages_in.update((id_, 1 + id_ % 3) for id_ in account.messages_in)
    for number, row in enumerate(account.listing()):
        row["contactId"] = 700 + number - number % 10 // 9
    return account


def poisoned(runs: Runs) -> dict[str, int]:
    """Poison items of each kind, with one between that can be read."""
    talkative(runs.drift.account)
    ids = dict(zip(POISONS, runs.in_order[1::2], strict=False))
    assert len(ids) == len(POISONS)
    runs.drift.fault = first_of(*(items_never_load({ids[k]}, POISONS[k]) for k in POISONS))
    return ids


# Items


@every_stream
@every_concurrency
def test_what_cannot_be_read_is_owed_and_paid_later(
    sandbox: Serve, said: Callable[[], list[str]], stream: str, concurrency: int
) -> None:
    runs = Runs(sandbox(25), stream, concurrency=concurrency)
    ids = poisoned(runs)
    newest = runs.drift.account.listing()[0]["updatedAt"]

    first = runs.run()
    assert first.exit_code == 1
    assert runs.owed.keys() == set(ids.values())
    assert runs.lacks(ids.values()) == []
    assert first.bookmark(stream)["walk"] == NO_WALK
    assert first.bookmark(stream)["replication_key_value"] == as_time(newest)
    lines = said()
    for id_ in ids.values():
        assert len([line for line in lines if f"{stream}: {id_} can't be read" in line]) == 1
    assert f"{stream}: {len(ids)} could not be read. The next run asks" in lines[-1]

    # Old debts stay with a warning each, whatever the retries: a scheduler has to go on.
    second = runs.run(max_retries=5)
    assert second.exit_code == 0
    assert runs.owed.keys() == set(ids.values())
    assert runs.asked[-len(ids) :] == list(ids.values())
    assert not set(runs.asked[: -len(ids)]) & set(ids.values())
    lines = said()
    assert len(lines) == len(ids)
    assert all(any(f"{stream}: {id_} still" in line for line in lines) for id_ in ids.values())

    runs.healed()
    assert said() == []
    assert runs.due() == runs.target


def test_the_other_messages_of_a_conversation_are_written(sandbox: Serve) -> None:
    runs = Runs(sandbox(12), "messages")
    talkative(runs.drift.account)
    id_ = runs.in_order[3]
    runs.drift.account.messages_in[id_] = 5
    runs.drift.fault = items_never_load({id_}, no_id)
    assert runs.run().exit_code == 1
    assert runs.owed.keys() == {id_}
    assert len(runs.lacks()) == 1
    runs.healed()


@every_stream
def test_twenty_runs_read_everything_else(sandbox: Serve, stream: str) -> None:
    runs = Runs(sandbox(25), stream, lookback_seconds=600)
    poison = set(poisoned(runs).values())
    for number in range(20):
        # What was owed is owed still; of contacts, some come up again with new conversations.
        output = runs.run(concurrency=8 if number % 2 else 1)
        assert output.exit_code == (1 if number == 0 else 0)
        assert runs.owed.keys() == poison
        assert runs.lacks(poison) == []
        for _ in range(2):
            runs.drift.account.messages_in[runs.drift.account.begin()] = 2
    runs.healed()


@every_stream
def test_a_newer_version_is_asked_for_in_the_walk(sandbox: Serve, stream: str) -> None:
    runs = Runs(sandbox(30), stream, max_retries=1)
    account = talkative(runs.drift.account)
    poison = runs.in_order[4]
    runs.drift.fault = items_never_load({poison}, html(410))
    assert runs.run().exit_code == 1

    def change() -> str:
        key = "contactId" if stream == "contacts" else "id"
        account.change(next(row["id"] for row in account.listing() if row[key] == poison))
        account.begin()
        account.messages_in[account.listing()[0]["id"]] = 1
        return as_time(next(r["updatedAt"] for r in account.listing() if r[key] == poison))

    newer = change()
    assert runs.run().exit_code == 0  # it is no new debt
    assert runs.owed == {poison: newer}
    assert runs.asked.count(poison) == 2
    # The same version is left for last.
    assert runs.run(lookback_seconds=86_400).exit_code == 0
    assert runs.asked.count(poison) == 1
    assert runs.asked[-1] == poison
    assert len(runs.asked) > 10
    # What can be read in a newer version is not asked for once more.
    change()
    runs.healed(lookback_seconds=86_400)
    assert runs.asked.count(poison) == 1
    assert runs.due() == runs.target


def test_no_older_version_of_a_contact_replaces_a_newer_one(sandbox: Serve) -> None:
    """A walk that resumes may meet a contact by way of an older conversation."""
    runs = Runs(sandbox(30), "contacts", page_size=5)
    account = runs.drift.account
    newest, oldest = account.listing()[0], account.listing()[-1]
    oldest["contactId"] = newest["contactId"]
    account.conversations[oldest["id"]]["contactId"] = newest["contactId"]
    poison = newest["contactId"]
    assert runs.in_order[1] != poison
    account.begin()  # the first success
    refused = answers(error(401, "authentication_error", "no"))
    runs.drift.fault = first_of(items_never_load({poison}, BROKEN), since(15, refused))
    assert runs.run().exit_code == 1
    assert runs.owed == {poison: as_time(newest["updatedAt"])}
    assert runs.state
    assert runs.state["bookmarks"]["contacts"]["walk"]["cursor"]
    runs.drift.fault = items_never_load({poison}, BROKEN)
    assert runs.run().exit_code == 0
    assert runs.owed == {poison: as_time(newest["updatedAt"])}
    runs.healed()
    assert runs.target[poison] == runs.due()[poison]


@every_stream
@pytest.mark.parametrize("poison", [BROKEN, FORBIDDEN], ids=["500", "403"])
@pytest.mark.parametrize("batches", [False, True], ids=["", "BATCH"])
def test_lasting_poison_in_a_row_stops_no_run_after_the_first(
    sandbox: Serve, tmp_path: Path, stream: str, poison: Fault, *, batches: bool
) -> None:
    """Ten adjacent items look like an outage once; they may not do so for ever."""
    runs = Runs(sandbox(20), stream)
    talkative(runs.drift.account)
    ids = set(runs.in_order[:FAILURES_TOLERATED])
    runs.drift.fault = items_never_load(ids, poison)
    config: Json = {"batch_config": batch_config(tmp_path)} if batches else {}
    tried = 0
    while runs.run(None, **config).exit_code and tried < 30:
        tried += 1
    assert tried <= (1 if poison is BROKEN else FAILURES_TOLERATED)
    assert runs.owed.keys() == ids
    if batches:
        runs.target = upserted({}, in_files(*tmp_path.iterdir()))
    assert runs.lacks(ids) == []
    assert runs.run(None, **config).exit_code == 0
    runs.healed()


@every_stream
@every_concurrency
@pytest.mark.parametrize("first", [2, 17])
def test_an_outage_fails_the_stream_and_passes_over_nothing(
    sandbox: Serve, said: Callable[[], list[str]], stream: str, concurrency: int, first: int
) -> None:
    runs = Runs(sandbox(50), stream, concurrency=concurrency)
    talkative(runs.drift.account)
    down = html(503)
    runs.drift.fault = since(
        first, lambda drift, request: None if "list" in request.path else down(drift, request)
    )
    for number in range(3):
        assert runs.run().exit_code == 1
        assert [line for line in said() if "in a row" in line]
        assert runs.owed
        assert len(runs.owed) <= (number + 1) * (FAILURES_TOLERATED + concurrency)
    runs.healed()


@every_stream
@every_concurrency
def test_401_fails_at_once(
    sandbox: Serve, said: Callable[[], list[str]], stream: str, concurrency: int
) -> None:
    runs = Runs(sandbox(40), stream, concurrency=concurrency)
    talkative(runs.drift.account)
    poison = runs.in_order[1]
    refused = items_never_load(
        set(runs.in_order[15:]), error(401, "authentication_error", "It has expired")
    )
    runs.drift.fault = first_of(items_never_load({poison}, BROKEN), refused)
    assert runs.run().exit_code == 1
    owed, *others = said()
    assert f"{poison} can't be read" in owed
    assert ["It has expired" in line for line in others] == [True]
    assert runs.owed.keys() == {poison}
    runs.healed()


@every_stream
def test_401_for_what_is_owed_fails(sandbox: Serve, stream: str) -> None:
    runs = Runs(sandbox(12), stream)
    talkative(runs.drift.account)
    runs.drift.fault = items_never_load({runs.in_order[3]}, BROKEN)
    assert runs.run().exit_code == 1
    refused = error(401, "authentication_error", "It has expired")
    runs.drift.fault = items_never_load(runs.owed.keys(), refused)
    assert runs.run().exit_code == 1
    assert len(runs.owed) == 1
    runs.healed()


@every_stream
@every_concurrency
def test_a_missing_scope_fails_the_stream_and_is_named(
    sandbox: Serve, said: Callable[[], list[str]], stream: str, concurrency: int
) -> None:
    runs = Runs(sandbox(40), stream, concurrency=concurrency)
    talkative(runs.drift.account)
    runs.drift.fault = items_never_load(runs.in_order, FORBIDDEN)
    for _ in range(2):
        assert runs.run().exit_code == 1
        (line,) = said()
        assert f"{stream}: GET /con" in line
        assert ("contact_read" if stream == "contacts" else "conversation_read") in line
    runs.healed()


def owing(runs: Runs, number: int, *poison: int) -> list[int]:
    """Let a run begin that owes so many that are none of the account's, and some that are."""
    runs.drift.fault = items_never_load(poison, BROKEN)
    runs.run()
    assert runs.state
    others = [2**62 + n for n in range(number - len(poison))]
    listed = [{"id": id_, "updatedAt": as_time(1_760_000_000_123)} for id_ in others]
    runs.state["bookmarks"][runs.stream]["owed"] += listed
    runs.state["bookmarks"][runs.stream]["replication_key_value"] = None
    return others


@every_stream
def test_no_more_than_a_thousand_are_owed(
    sandbox: Serve, said: Callable[[], list[str]], stream: str
) -> None:
    """And if none of them can be read, only some are asked for: it may be an outage."""
    runs = Runs(sandbox(20), stream)
    talkative(runs.drift.account)
    first, one_more = runs.in_order[3:6:2]
    others = owing(runs, MOST_OWED, first)
    runs.drift.fault = items_never_load([first, one_more, *others], BROKEN)
    asked = []
    for _ in range(2):
        output = runs.run()
        assert output.exit_code == 1
        assert runs.owed.keys() == {first, *others}
        *_, paying, end = said()
        assert "That makes 10 in a row. What else is owed is left for the next run." in paying
        assert f"{one_more}" in end
        assert "1,000 could not be read before" in end
        asked += runs.asked[-10:]
    assert asked == [first, *others[:19]]
    assert len(json.dumps(output.state)) < 100_000


@every_stream
@pytest.mark.parametrize("batches", [False, True], ids=["", "BATCH"])
def test_a_full_ledger_stops_no_stream_for_good(
    sandbox: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str, *, batches: bool
) -> None:
    monkeypatch.setattr("tap_drift.owed.MOST_OWED", 20)
    runs = Runs(sandbox(20), stream)
    talkative(runs.drift.account)
    paid, one_more = runs.in_order[3:6:2]
    owing(runs, 20, paid)
    if batches:
        runs.config["batch_config"] = batch_config(tmp_path)
    runs.drift.fault = items_never_load([one_more], BROKEN)
    output = runs.run()  # the others are gone by now
    assert output.exit_code == 1
    assert runs.owed == {}
    target = in_files(*tmp_path.iterdir()) if batches else output.records(stream)
    of = "conversationId" if stream == "messages" else "id"
    assert paid in {row[of] for row in target}
    assert runs.run().exit_code == 1
    assert runs.owed.keys() == {one_more}
    if batches:
        runs.target = upserted(runs.target, in_files(*tmp_path.iterdir()), stream)
    assert runs.lacks([one_more]) == []


def test_files_that_are_owed_are_no_files_of_the_page_that_failed(
    sandbox: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_drift.owed.MOST_OWED", 2)
    drift = sandbox(9)
    ids = [row["id"] for row in drift.account.listing()]
    drift.account.messages_in = dict.fromkeys(ids, 4)
    catalog, config = selecting("attachments"), settings(drift, concurrency=4)
    drift.fault = items_never_load(ids[1:3], BROKEN)
    first = run_here(config, None, catalog)
    first.state["bookmarks"]["attachments"]["replication_key_value"] = None
    drift.fault = items_never_load(ids[4:5], BROKEN)
    second = run_here(config, first.state, catalog)
    assert second.exit_code == 1
    assert second.bookmark("attachments")["owed"] == []
    rows = upserted({}, second.records("attachments"), "attachments")
    due = expected(drift.account, "attachments")
    assert rows == {key: due[key] for key in rows}
    assert {ids[1], ids[2]} <= {row["conversationId"] for row in rows.values()}


def test_debts_are_no_reason_to_wait_for_an_outage_to_end(
    sandbox: Serve, said: Callable[[], list[str]]
) -> None:
    runs = Runs(sandbox(4), "conversation_details")
    others = owing(runs, 25)
    runs.drift.fault = items_never_load(others, BROKEN)
    assert runs.run().exit_code == 0
    assert runs.asked[-10:] == others[:10]
    assert said()[10:] == [
        "conversation_details: That makes 10 in a row. What else is owed is left for the next run."
    ]
    # One that can be read in between shows that it is no outage.
    runs.drift.fault = items_never_load([*others[:15], *others[16:]], BROKEN)
    assert runs.run().exit_code == 0
    assert runs.asked[-16:] == others[10:] + others[:1]
    runs.healed()


@pytest.mark.parametrize("stream", ["conversation_details", "messages"])
@pytest.mark.parametrize("always", [False, True])
def test_what_belongs_to_another_is_not_believed(
    sandbox: Serve, said: Callable[[], list[str]], stream: str, *, always: bool
) -> None:
    runs = Runs(sandbox(12), stream)
    talkative(runs.drift.account)
    wrong, other = runs.in_order[3:6:2]
    mixed_up: list[str] = []

    def mix_up(drift: Sandbox, request: Request) -> Response | None:
        if mixed_up and not always:
            return None
        mixed_up.append(request.path)
        path = request.path.replace(str(wrong), str(other))
        return drift.answer(type(request)(request.environ | {"PATH_INFO": path}))

    runs.drift.fault = items_never_load([wrong], mix_up)
    assert runs.run().exit_code == always
    line = f"{stream}: {wrong} can't be read, and is owed: GET {mixed_up[0]}: Drift sent those of "
    assert said()[0] == f"{line}another conversation."
    assert runs.owed.keys() == ({wrong} if always else set())
    assert runs.lacks([wrong] if always else ()) == []
    runs.healed()


@pytest.mark.parametrize("said_to_be", [None, "whose it is"])
def test_what_does_not_say_whose_it_is_is_believed(sandbox: Serve, said_to_be: str | None) -> None:
    runs = Runs(sandbox(5), "messages")
    talkative(runs.drift.account)

    def forget(body: Json) -> None:
        for row in body["data"]["messages"]:
            row["conversationId"] = said_to_be

    runs.drift.fault = items_never_load(runs.in_order, edited(forget))
    output = runs.run()
    assert output.exit_code == 0
    assert {row["id"] for row in output.records("messages")} == runs.due().keys()


@every_stream
@every_concurrency
def test_full_table_runs_owe_nothing_to_the_next(
    sandbox: Serve, stream: str, concurrency: int
) -> None:
    runs = Runs(sandbox(30), stream)
    talkative(runs.drift.account)
    poison = runs.in_order[1:8:3]
    runs.drift.fault = items_never_load(poison, BROKEN)
    config = settings(runs.drift, concurrency=concurrency)
    catalog = selecting(stream, method="FULL_TABLE")
    state = None
    for _ in range(2):
        output = run_here(config, state, catalog)
        state = output.state
        assert output.exit_code == 1
        assert upserted({}, output.records(stream), stream) == runs.due(poison)
        assert "owed" not in state["bookmarks"].get(stream, {})
    runs.drift.fault = None
    output = run_here(config, state, catalog)
    assert output.exit_code == 0
    assert upserted({}, output.records(stream), stream) == runs.due()


def test_a_full_table_run_asks_again_before_it_ends(sandbox: Serve) -> None:
    runs = Runs(sandbox(12), "conversation_details")
    runs.drift.faults[4] = BROKEN
    catalog = selecting(runs.stream, method="FULL_TABLE")
    output = run_here(settings(runs.drift), None, catalog)
    assert output.exit_code == 0
    assert upserted({}, output.records(runs.stream), runs.stream) == runs.due()


def batch_config(folder: Path) -> Json:
    return {
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "storage": {"root": folder.as_uri()},
        "batch_size": 7,
    }


def in_files(*files: Path) -> list[Json]:
    """What files hold, in the order in which they were written."""
    files = tuple(sorted(files, key=lambda file: file.stat().st_mtime_ns))
    unpacked = [gzip.decompress(file.read_bytes()).decode() for file in files]
    return [record for text in unpacked for record in lines(text)]


@every_stream
def test_batch_mode_owes_as_well(sandbox: Serve, tmp_path: Path, stream: str) -> None:
    runs = Runs(sandbox(25), stream, batch_config=batch_config(tmp_path))
    poison = set(poisoned(runs).values())
    assert runs.run().exit_code == 1
    assert runs.owed.keys() == poison
    assert runs.run().exit_code == 0
    assert runs.owed.keys() == poison
    runs.target = upserted({}, in_files(*tmp_path.iterdir()))
    assert runs.lacks(poison) == []
    runs.drift.fault = None
    assert runs.run().exit_code == 0
    assert runs.owed == {}
    runs.target = upserted({}, in_files(*tmp_path.iterdir()))
    assert runs.lacks() == []


@every_stream
def test_batch_mode_vouches_for_nothing_that_is_in_no_file(
    sandbox: Serve, tmp_path: Path, stream: str
) -> None:
    """A target dies after each of the messages; the files that it was told of count."""
    runs = Runs(sandbox(14), stream, page_size=4)
    talkative(runs.drift.account)
    poison = set(runs.in_order[1:8:3])
    for messages in range(2, 8):
        folder = tmp_path / str(messages)
        folder.mkdir()
        runs.state, runs.target = None, {}
        runs.drift.fault = items_never_load(poison, BROKEN)
        target = Target(dies_after=messages)
        output = runs.run(target, batch_config=batch_config(folder))
        told = [m["manifest"] for m in output.messages if m["type"] == "BATCH"]
        files = [Path(urlsplit(name).path) for names in told for name in names]
        runs.target = upserted({}, in_files(*files))
        runs.healed()


@every_stream
def test_an_interruption_loses_no_debt(sandbox: Serve, stream: str) -> None:
    """Some items are owed by an earlier run, some can't be read now; it ends after any message."""
    runs = Runs(sandbox(14), stream, page_size=4, lookback_seconds=600)
    account = talkative(runs.drift.account)
    old, new = set(runs.in_order[2:7:4]), set(runs.in_order[1:6:4])
    runs.drift.fault = items_never_load(old, BROKEN)
    runs.run()
    before, had = runs.state, runs.target
    assert runs.owed.keys() == old
    assert before
    before["bookmarks"][stream]["replication_key_value"] = None
    account.change(account.listing()[3]["id"])
    runs.drift.fault = items_never_load(new, BROKEN)
    taken = len(runs.run().messages)
    assert runs.owed.keys() == new
    for messages in range(1, taken, max(1, taken // 8)):
        runs.state, runs.target = before, dict(had)
        runs.drift.fault = items_never_load(new, BROKEN)
        runs.run(Target(dies_after=messages), concurrency=4)
        runs.healed()


@every_stream
def test_what_is_owed_and_gone_is_counted(
    sandbox: Serve, said: Callable[[], list[str]], stream: str
) -> None:
    runs = Runs(sandbox(12), stream)
    talkative(runs.drift.account)
    poison = runs.in_order[3]
    runs.drift.fault = items_never_load({poison}, html(404))  # of a gateway
    assert runs.run().exit_code == 1
    assert runs.owed.keys() == {poison}
    said()
    runs.drift.fault = items_never_load({poison}, error(404, "not_found", "No such thing"))
    assert runs.run().exit_code == 0
    assert runs.owed == {}
    assert said() == [f"{stream}: 1 were gone when their turn came, and are skipped."]
    assert runs.lacks({poison}) == []


@every_stream
@pytest.mark.parametrize("status", [429, 503])
def test_a_day_of_waiting_for_one_item_fails_one_run(
    sandbox: Serve, said: Callable[[], list[str]], stream: str, status: int
) -> None:
    runs = Runs(sandbox(20), stream, max_retries=5)
    talkative(runs.drift.account)
    poison = runs.in_order[3]
    day = error(status, "rate_limit", "Later", {"Retry-After": "86400"})
    runs.drift.fault = items_never_load({poison}, day)
    assert runs.run().exit_code == 1
    assert "It asks to wait 86,400 s" in said()[-1]
    assert runs.run().exit_code == 0
    assert "It asks to wait 86,400 s" in said()[0]
    assert runs.owed.keys() == {poison}
    assert runs.lacks({poison}) == []
    runs.healed()


def test_what_is_owed_waits_for_the_next_run_if_drift_asks_to_slow_down(sandbox: Serve) -> None:
    """And each has its turn, whatever the others answer."""
    runs = Runs(sandbox(30), "conversation_details")
    ids = runs.in_order[1:8:2]
    runs.drift.fault = items_never_load(ids, BROKEN)
    runs.run()
    runs.drift.fault = items_never_load(ids[:1], error(429, "rate_limit", "Slow down"))
    runs.run()
    assert [id_ for id_ in runs.asked if id_ in ids] == ids[:1]
    runs.run()
    assert runs.owed.keys() == set(ids[:1])
    runs.healed()


def test_items_without_end_are_owed(sandbox: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_drift.items.MOST_ITEMS", 200)
    runs = Runs(sandbox(12), "messages")
    talkative(runs.drift.account)
    endless = runs.in_order[3]

    def ever_more(drift: Sandbox, request: Request) -> Response:
        first = int(request.args.get("next", 0))
        rows = [{"id": first + n, "conversationId": endless} for n in range(50)]
        more = {"more": True, "next": str(first + 50)}
        return as_json({"data": {"messages": rows}, "pagination": more})

    runs.drift.fault = items_never_load({endless}, ever_more)
    assert runs.run().exit_code == 1
    assert runs.owed.keys() == {endless}
    runs.healed()


def test_pages_do_not_pile_up_behind_an_item_that_takes_long(sandbox: Serve) -> None:
    account_size, concurrency = 200, 2
    runs = Runs(sandbox(account_size), "contacts", page_size=2, concurrency=concurrency)
    account = runs.drift.account
    for row in account.conversations.values():
        row["contactId"] = 1
    first = next(iter(account.conversations.values()))["contactId"]
    lists: list[int] = []

    def wait(drift: Sandbox, request: Request) -> None:
        if request.path.startswith("/contacts/"):
            drift.closed.wait(0.6)
            lists.append(sum("list" in path for path in drift.requests))

    runs.drift.fault = items_never_load({first}, wait)
    assert runs.run().exit_code == 0
    assert lists[0] <= 2 * concurrency + 3
    assert runs.lacks() == []


# Rows without a key

NO_KEYS: dict[str, Any] = {"missing": ..., "null": None, "text": "x1", "2^70": 2**70}


def keyless(rows: Iterable[Json], field: str, values: Iterable[Any]) -> None:
    for row, value in zip(rows, values, strict=False):
        row[field] = value
        if value is ...:
            del row[field]


@pytest.mark.parametrize("stream", ["conversations", *STREAMS])
def test_rows_of_the_list_without_an_id_are_left_out(
    sandbox: Serve,
    said: Callable[[], list[str]],
    cursor: Way,
    stream: str,
) -> None:
    drift = sandbox(40, cursor)
    talkative(drift.account)
    rows = drift.account.listing()
    # At the end and at the beginning of a page, in the middle of one, and the very first.
    ids = [rows[place]["id"] for place in (4, 9, 12, 0)]
    values = dict(zip(ids, NO_KEYS.values(), strict=True))

    def forget(body: Any) -> None:
        for row in body["data"]:
            if row["id"] in values:
                keyless([row], "id", [values[row["id"]]])

    edit = edited(forget)
    drift.fault = lambda drift, request: edit(drift, request) if "list" in request.path else None
    runs = Runs(drift, stream, page_size=5, concurrency=8)
    output = runs.run()
    assert output.exit_code == (0 if stream == "contacts" else 1)
    assert output.bookmark(stream)["walk"] == NO_WALK
    assert output.bookmark(stream)["replication_key_value"] == as_time(rows[1]["updatedAt"])
    if stream == "contacts":  # their number is there
        assert runs.lacks() == []
        return
    assert runs.lacks(ids) == []
    records = output.records(stream)
    assert len(records) == len(runs.target) == len(runs.due(ids))
    assert said() == [f"{stream}: 4 without a usable id had to be left out."]


@pytest.mark.parametrize(
    ("stream", "path", "kinds"),
    [
        ("users", "/users/list", NO_KEYS),
        ("teams", "/teams/org", NO_KEYS),
        ("playbooks", "/playbooks/list", NO_KEYS),
        ("accounts", "/accounts", ["missing", "null"]),  # whose ids are text
    ],
)
def test_rows_without_a_key_are_left_out(
    sandbox: Serve,
    said: Callable[[], list[str]],
    stream: str,
    path: str,
    kinds: Iterable[str],
) -> None:
    drift = sandbox(1)
    key = "accountId" if stream == "accounts" else "id"

    def add(body: Any) -> None:
        data = body["data"] if isinstance(body, dict) else body
        rows = data["accounts"] if stream == "accounts" else data
        more = [dict(rows[0]) for _ in kinds]
        keyless(more, key, [NO_KEYS[kind] for kind in kinds])
        rows[:0] = more

    def once(drift: Sandbox, request: Request) -> Response | None:
        is_first = request.path == path and request.args.get("index", "0") == "0"
        return edited(add)(drift, request) if is_first else None

    drift.fault = once
    output = run_here(settings(drift), None, selecting(stream))
    assert output.exit_code == 1
    assert upserted({}, output.records(stream), stream) == expected(drift.account, stream)
    number = len(list(kinds))
    assert said() == [f"{stream}: {number} without a usable {key} had to be left out."]


def test_a_list_without_any_key_stops_nothing(sandbox: Serve) -> None:
    drift = sandbox(30)
    forget = edited(lambda body: keyless(body["data"], "id", [None] * 50))
    drift.fault = lambda drift, request: forget(drift, request) if "list" in request.path else None
    runs = Runs(drift, "messages", page_size=5)
    assert runs.run().exit_code == 1
    runs.healed()
