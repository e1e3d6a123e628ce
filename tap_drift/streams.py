"""The streams: one short class each."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from tap_drift.answers import ByLink, ByNext, rows_at
from tap_drift.compat import override
from tap_drift.drift import DriftError
from tap_drift.files import FilesStream
from tap_drift.items import ItemsStream
from tap_drift.newest_first import NewestFirstStream
from tap_drift.reports import ReportStream
from tap_drift.stream import DriftStream
from tap_drift.values import read_text, rfc3339
from tap_drift.windows import WindowStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Row = dict[str, Any]

ACCOUNTS_PER_PAGE = 65
"""The most that Drift gives at a time, as its clients have it."""


class ConversationsStream(NewestFirstStream):
    """Conversations as Drift's list has them: status, contact, inbox, times."""

    name = "conversations"
    selected_by_default = True
    replication_key = "updatedAt"


class ConversationDetailsStream(ItemsStream):
    """Conversations with what only a request for each one tells: participants, tags, playbook."""

    name = "conversation_details"
    replication_key = "updatedAt"
    item_path = "/conversations/{}"
    item_jsonpath = "$.data"
    item_repeats = "id"
    versioned = False


class MessagesStream(ItemsStream):
    """The messages of conversations: all of them, whenever their conversation has changed."""

    name = "messages"
    replication_key = "conversationUpdatedAt"
    item_path = "/conversations/{}/messages"
    item_jsonpath = "$.data.messages[*]"
    pagination = ByNext("$.pagination.next")
    costs = "1 per 50 messages, at least 1 per conversation, and the list"


class ContactsStream(ItemsStream):
    """The contacts of conversations, each once per walk: Drift has no list of contacts."""

    name = "contacts"
    replication_key = "conversationUpdatedAt"
    scope = "contact_read"
    costs = "1 per contact, and the list"
    item_path = "/contacts/{}"
    item_field = "contactId"
    item_repeats = ""  # contacts may be merged: then another one answers
    item_jsonpath = "$.data"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._seen: set[int] = set()

    def met_before(self, ids: Iterable[int]) -> None:
        """Take note of contacts that were read earlier in the walk that is under way."""
        self._seen.update(ids)

    @override
    def begin_at_head(self) -> None:
        # What changed since a walk began is for the next walk to read, in the same run or not.
        self._seen.clear()

    @override
    def wanted(self, id_: int) -> bool:
        is_new = id_ not in self._seen
        self._seen.add(id_)
        return is_new


class TranscriptsStream(ItemsStream):
    """Conversations as text, for people to read."""

    name = "transcripts"
    primary_keys = ("conversationId",)
    replication_key = "conversationUpdatedAt"
    item_path = "/conversations/{}/transcript"

    @override
    def read_items(self, id_: int, **how: Any) -> Iterator[list[Row]]:
        """Ask for a transcript: text, or text in JSON where the answer says that it is JSON."""
        path = self.item_path.format(id_)
        answer = self.read_content(path, kind="text", **how)
        text: Any = read_text(answer.content)
        others: Row = {}
        if "json" in answer.media_type:
            others = dict(answer.body) if isinstance(answer.body, dict) else {"data": answer.body}
            text = others.pop("data", None)
        if not isinstance(text, str) or "html" in answer.media_type:
            msg = f"GET {path}: the answer is not what Drift documents: no text."
            raise DriftError(msg, status=HTTPStatus.OK)
        yield [others | {"conversationId": id_, "transcript": text}]


class AttachmentsStream(FilesStream):
    """The files in messages, with their content in base64."""

    name = "attachments"
    primary_keys = ("messageId", "position")
    replication_key = "conversationUpdatedAt"
    item_path = "/conversations/{}/messages"
    item_jsonpath = "$.data.messages[*]"
    file_path = "/attachments/{}/data"
    pagination = ByNext("$.pagination.next")
    costs = "those of `messages`, and 1 per file"

    @override
    def rows_of(self, item: Row, id_: int) -> list[Row]:
        files = item.get("attachments") or []
        if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
            msg = "the attachments of a message are not what Drift documents: no list of objects."
            raise DriftError(msg, status=HTTPStatus.OK)
        known = {"conversationId": id_, "messageId": item.get("id")}
        return [file | known | {"position": number} for number, file in enumerate(files)]


class UsersStream(DriftStream):
    """Your colleagues and bots."""

    name = "users"
    path = "/users/list"
    records_jsonpath = "$.data[*]"
    scope = "user_read"


class TeamsStream(DriftStream):
    """Teams, and who is in them."""

    name = "teams"
    path = "/teams/org"
    records_jsonpath = "$.data[*]"
    scope = "user_read (Drift does not document which scope teams need)"


class AccountsStream(DriftStream):
    """Accounts, which are companies."""

    name = "accounts"
    path = "/accounts"
    primary_keys = ("accountId",)
    records_jsonpath = "$.data.accounts[*]"
    next_page_token_jsonpath = "$.data.next"  # noqa: S105
    scope = "account_read"
    costs = f"1 per {ACCOUNTS_PER_PAGE}"
    pagination = ByLink("$.data.next", counter="index", full=ACCOUNTS_PER_PAGE)
    first_page: ClassVar = {"index": 0, "size": ACCOUNTS_PER_PAGE}


class PlaybooksStream(DriftStream):
    """The playbooks that are enabled now."""

    name = "playbooks"
    path = "/playbooks/list"
    records_jsonpath = "$[*]"
    scope = "playbook_read"


class ConversationMetricsStream(ReportStream):
    """What Drift's reports count: messages, times until an answer and until the end."""

    name = "conversation_metrics"
    path = "/reports/conversations"
    primary_keys = ("conversationId",)
    scope = "conversation_read"
    costs = "1, and more if Drift cuts its answers; 60 a minute at the most"
    metrics = (
        "createdAt",
        "lastAgentId",
        "endUserId",
        "timeToCloseMillis",
        "timeToAgentResponseMillis",
        "firstAgentMessageAt",
        "firstCloseAt",
        "relatedPlaybookId",
        "numAgentMessages",
        "numBotMessages",
        "numEndUserMessages",
    )


class ConversationStatsStream(DriftStream):
    """How many conversations each status has; every run adds rows."""

    name = "conversation_stats"
    path = "/conversations/stats"
    primary_keys = ("status", "countedAt")
    records_jsonpath = "$.conversationCount"
    scope = "conversation_read"
    keeps_history = True

    @override
    def read_records(self) -> Iterator[Row]:
        answer = self.ask(self.path)
        (counts,) = rows_at(self.records_jsonpath, answer.body)
        known = {"countedAt": rfc3339(int(answer.now or time.time() * 1000))}
        yield from self.records(
            {"status": status, "count": count} | known for status, count in counts.items()
        )


class BookedMeetingsStream(WindowStream):
    """Meetings to come, and of the last 30 days, which is all that Drift remembers."""

    name = "booked_meetings"
    path = "/users/meetings/org"
    primary_keys = ("meetingKey",)
    records_jsonpath = "$.data[*]"
    scope = "user_read"
    keeps_history = True
    window_parameters = ("min_start_time", "max_start_time")
    most_rows = 1000
    first_page: ClassVar = {"limit": most_rows}
    days = (-30, 90)
    costs = f"1, and more if there are {most_rows:,}"

    @override
    def with_key(self, row: Row) -> Row:
        """Drift documents no key. Its own code looks meetings up by their slug."""
        parts = [row.get(name) for name in ("agentId", "slotStart", "schedulerId")]
        joined = None if None in parts else "-".join(map(str, parts))
        return row | {"meetingKey": row.get("slug") or row.get("eventId") or joined}


class LandingPagesStream(DriftStream):
    """Conversational landing pages, and the playbooks that they open."""

    name = "landing_pages"
    path = "/playbooks/clp"
    primary_keys = ("playbookId", "landingPageUrl")
    records_jsonpath = "$[*]"
    scope = "playbook_read"


class ContactAttributesStream(DriftStream):
    """What the attributes of contacts are called, and what type they have."""

    name = "contact_attributes"
    path = "/contacts/attributes"
    primary_keys = ("name",)
    records_jsonpath = "$.data.properties[*]"
    scope = "all_contact_read"
