"""What is in an archive, and whether it is complete: made from its files alone."""

from __future__ import annotations

import collections
import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec

from tap_drift.archive.files import Length, sized
from tap_drift.archive.folder import ASKED, Complete
from tap_drift.progress import counted
from tap_drift.tap import STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tap_drift.archive.folder import About, Contents, Folder

    Json = dict[str, Any]

NAMED = 10
"""How many ids a line of the report names; `report.json` has them all."""

TIMES = ("createdAt", "updatedAt", "conversationUpdatedAt")

SCRATCH = """
create table keys (stream, key, primary key (stream, key)) without rowid;
create table conversations (id primary key, contactId, updatedAt, status) without rowid;
create table asked (stream, id, version, rows, primary key (stream, id)) without rowid;
"""

UPSERT_ASKED = """
insert into asked values (:stream, :id, :conversationUpdatedAt, :rows)
on conflict do update set rows = excluded.rows, version = case
    when version is null or excluded.version is null then null
    else max(version, excluded.version) end
"""

NOTHING = """
select distinct c.{each}, case
    when a.id is null then 'not_read'
    when a.version < c.updatedAt then 'changed_since'
    when a.rows is null then 'gone'
    else 'empty' end as why
from conversations as c left join asked as a on a.stream = ? and a.id = c.{each}
where c.{each} is not null
    and (a.id is null or a.version < c.updatedAt or coalesce(a.rows, 0) = 0)
order by 1
"""
"""Conversations (or contacts) of which there are no items, and what is known of that."""

FIRST_SENTENCE = re.compile(r"(?:[A-Z]+ /\S*: )?((?:\([^)]*\)|\.(?!\s|$)|[^.])*)")
"""What streams that failed alike have in common: not what was asked for, nor what to do."""

KINDS = {
    "empty": "Drift has none of",
    "gone": "gone when their turn came, those of",
    "not_read": "not read, those of",
    "changed_since": "not read since they changed, those of",
}
"""Why there are no items, in words."""


def make(folder: Folder, now: str) -> Json:
    """Say what is in an archive.

    Args:
        folder: The archive.
        now: What time it is.

    Returns:
        The report, as `report.json` has it.
    """
    contents = folder.contents
    bookmarks = contents.state.get("bookmarks") or {}
    # Memory does not grow with the account: an empty name is a file that SQLite removes.
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.executescript(SCRATCH + "begin;")
        streams = {
            name: _stream(folder, name, about, bookmarks.get(name) or {}, scratch)
            for name, about in sorted(contents.streams.items())
        }
        scratch.executemany(UPSERT_ASKED, folder.rows(ASKED))
        without = {
            name: _without(scratch, name, about.each)
            for name, about in sorted(contents.streams.items())
            if about.each and "conversations" in contents.streams
        }
        ours = dict(scratch.execute("select status, count(*) from conversations group by 1"))
    why = list(_why_not_complete(folder, streams, without))
    limits = _limits(contents.streams, bookmarks)
    complete = _last_complete(contents, limits) if why else Complete(_as_of(contents), limits)
    return {
        "complete": not why,
        "complete_as_of": complete and complete.as_of,
        "complete_within": complete and complete.limits,
        "why_not": why,
        "limits": limits,
        "made_at": now,
        "account": (contents.account or "").partition(":")[0] or None,
        "streams": streams,
        "without": without,
        "conversations_by_status": ours,
        "drift_counts_by_status": _drifts_counts(folder),
        "warnings": contents.warnings,
    }


def as_text(report: Json) -> str:
    """Write a report for people; its last line is the verdict."""
    lines = [
        f"{'stream':21}{'rows':>11}{'keys':>11}{'size':>10}  from        to          owed  gone"
    ]
    for name, of in report["streams"].items():
        nothing = report["without"].get(name, {})
        times = "".join(f"{(of[end] or '')[:10]:12}" for end in ("oldest", "newest"))
        counts = f"{len(of['owed']):>4,}{len(nothing.get('gone', ())):>6,}"
        sizes = f"{of['rows']:>11,}{of['keys']:>11,}{sized(of['bytes']):>10}"
        lines.append(f"{name:21}{sizes}  {times}{counts}")
    if any(of["rows"] > of["keys"] for of in report["streams"].values()):
        lines.append("Keys are the different ones; rows are more where one was read several times.")
    for name, kinds in report["without"].items():
        lines += [f"{_nothing(name, kind, ids)}." for kind, ids in kinds.items() if ids]
    if report["drift_counts_by_status"]:
        lines.append(
            "For information, conversations by status: "
            f"here {_counts(report['conversations_by_status'])}; "
            f"as Drift counts {_counts(report['drift_counts_by_status'])}."
        )
    return "\n".join([*lines, verdict(report)])


def verdict(report: Json, on: str = "") -> str:
    """Say whether an archive is complete, and as of when.

    Args:
        report: What is in it.
        on: When it was found not to be, in words, with a space before them.
    """
    why, at, limits = "; ".join(report["why_not"]), report["complete_as_of"], ""
    if report["complete_within"]:
        limits = f" (as far as was asked for: {report['complete_within']})"
    if not at:
        return f"not complete{on}: {why}"
    # Always with the time, since a run may read some of the streams again, and others not.
    complete = f"complete as of {at[:10]} {at[11:16]} UTC{limits}"
    return complete if report["complete"] else f"{complete}; what is newer is not all there: {why}"


def _stream(
    folder: Folder, name: str, about: About, bookmark: Json, to: sqlite3.Connection
) -> Json:
    length = folder.contents.files.get(name, Length())
    times: list[str] = []

    def keys() -> Iterator[tuple[str, str]]:
        nonlocal times
        for row in folder.rows(name):
            key = [row.get(field) for field in about.key]
            yield name, msgspec.json.encode(key).decode()
            if time := next((row[field] for field in TIMES if row.get(field)), None):
                times = [min([time, *times]), max([time, *times])]
            if name == "conversations":
                values = [row.get(field) for field in ("id", "contactId", "updatedAt", "status")]
                to.execute("insert or replace into conversations values (?, ?, ?, ?)", values)

    for key in keys():
        to.execute("insert or ignore into keys values (?, ?)", key)
    (distinct,) = to.execute("select count(*) from keys where stream = ?", [name]).fetchone()
    return {
        "rows": length.rows,
        "keys": distinct,
        "oldest": times[0] if times else None,
        "newest": times[-1] if times else None,
        "bytes": length.bytes,
        "read_to_end_at": about.read_to_end_at,
        "broke_off": about.broke_off,
        "left_out": about.left_out,
        "owed": [owed["id"] for owed in bookmark.get("owed") or ()],
    }


def _without(scratch: sqlite3.Connection, name: str, each: str) -> dict[str, list[int]]:
    column = {"id": "id", "contactId": "contactId"}[each]
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for id_, why in scratch.execute(NOTHING.format(each=column), [name]):
        # Most conversations have no files, and nobody looks for them.
        if (why, name) != ("empty", "attachments"):
            found[why].append(id_)
    return found


def _why_not_complete(folder: Folder, streams: Json, without: Json) -> Iterator[str]:
    if not streams:
        yield "nothing was read yet"
    bookmarks = folder.contents.state.get("bookmarks") or {}
    unread = {
        name: why
        for name, of in streams.items()
        if (why := _why_unread(of, (bookmarks.get(name) or {}).get("walk") or {}))
    }
    for why in dict.fromkeys(unread.values()):
        names = [name for name in unread if unread[name] == why]
        is_all = len(names) == len(streams) > 1
        some = f"{', '.join(names)}: not read to the end ({why})"
        yield f"{why}: all {len(names)} streams" if is_all else some
    for name, of in streams.items():
        if of["owed"]:
            yield f"of {name}, what belongs to {_some(of['owed'])} could not be read"
        if of["left_out"]:
            yield f"of {name}, {of['left_out']:,} had no usable key and were left out"
        for kind in ("not_read", "changed_since"):
            owed = set(of["owed"])
            ids = [id_ for id_ in without.get(name, {}).get(kind, ()) if id_ not in owed]
            if ids and name not in unread:
                yield _nothing(name, kind, ids)


def _why_unread(of: Json, walk: Json) -> str:
    """Say why a stream was not read to its end, in words that streams share; empty if it was."""
    if of["broke_off"]:
        (sentence,) = FIRST_SENTENCE.match(of["broke_off"]).groups()  # type: ignore[union-attr]
        is_refused = sentence.startswith("Drift answered 401")
        return "Drift refused the token (401)" if is_refused else sentence
    if not of["read_to_end_at"]:
        return "not begun yet"
    return "its walk is under way" if walk.get("cursor") is not None else ""


def _as_of(contents: Contents) -> str:
    """Say of what time the oldest part of a complete archive is."""
    return min(str(about.as_of or about.read_to_end_at) for about in contents.streams.values())


def _last_complete(contents: Contents, limits: str) -> Complete | None:
    """Say when there was all that is asked for now."""
    known = contents.complete
    covers = known and known.limits in {"", limits}
    is_read = all(about.read_to_end_at for about in contents.streams.values())
    return known if covers and is_read else None


def _limits(streams: Iterable[str], bookmarks: Json) -> str:
    covers = [of["covers"] for of in bookmarks.values() if of.get("covers")]
    statuses = sorted({status for of in covers for status in of.get("statuses") or ()})
    starts = sorted({of["start_date"] for of in covers if of.get("start_date")})
    is_all = {stream.name for stream in STREAMS} <= set(streams)  # type: ignore[misc]
    texts = [] if is_all else [f"only {', '.join(sorted(streams))}"]
    texts += [f"status {' or '.join(statuses)}"] if statuses else []
    texts += [f"from {starts[-1]}"] if starts else []
    return "; ".join(texts)


def _drifts_counts(folder: Folder) -> dict[str, int]:
    counts: dict[str, int] = {}
    newest: dict[str, str] = collections.defaultdict(str)
    for row in folder.rows("conversation_stats"):
        status, at = str(row.get("status")), str(row.get("countedAt"))
        if at >= newest[status]:
            newest[status], counts[status] = at, row.get("count") or 0
    return counts


def _nothing(name: str, kind: str, ids: list[int]) -> str:
    what = counted(len(ids), "contacts" if name == "contacts" else "conversations")
    return f"{name}: {KINDS[kind]} {what}: {_some(ids)}"


def _some(ids: list[int]) -> str:
    more = len(ids) - NAMED
    return ", ".join(map(str, ids[:NAMED])) + (f" and {more:,} more" if more > 0 else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{status} {number:,}" for status, number in sorted(counts.items())) or "none"
