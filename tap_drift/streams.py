"""The streams: one short class each."""

from __future__ import annotations

from typing import Any, ClassVar

from tap_drift.answers import ByLink, ByNext
from tap_drift.compat import override
from tap_drift.items import ItemsStream
from tap_drift.newest_first import NewestFirstStream
from tap_drift.stream import DriftStream

ACCOUNTS_PER_PAGE = 65
"""The most that Drift gives at a time, as its clients have it."""


class ConversationsStream(NewestFirstStream):
    """Conversations as Drift's list has them."""

    name = "conversations"
    selected_by_default = True
    replication_key = "updatedAt"


class ConversationDetailsStream(ItemsStream):
    """Conversations with what only a request for each one tells: participants, tags, playbook."""

    name = "conversation_details"
    replication_key = "updatedAt"
    item_path = "/conversations/{}"
    item_jsonpath = "$.data"
    versioned = False


class MessagesStream(ItemsStream):
    """The messages of conversations: all of them, whenever their conversation has changed."""

    name = "messages"
    replication_key = "conversationUpdatedAt"
    item_path = "/conversations/{}/messages"
    item_jsonpath = "$.data.messages[*]"
    pagination = ByNext("$.pagination.next")


class ContactsStream(ItemsStream):
    """The contacts of conversations, each once per walk: Drift has no list of contacts."""

    name = "contacts"
    replication_key = "conversationUpdatedAt"
    scope = "conversation_read or contact_read"
    item_path = "/contacts/{}"
    item_field = "contactId"
    item_jsonpath = "$.data"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._seen: set[int] = set()

    @override
    def begin_at_head(self) -> None:
        # What changed since a walk began is for the next walk to read, in the same run or not.
        self._seen.clear()

    @override
    def wanted(self, id_: int) -> bool:
        is_new = id_ not in self._seen
        self._seen.add(id_)
        return is_new


class UsersStream(DriftStream):
    """The users of the organisation, bots included."""

    name = "users"
    path = "/users/list"
    records_jsonpath = "$.data[*]"
    scope = "user_read"


class TeamsStream(DriftStream):
    """The teams of the organisation."""

    name = "teams"
    path = "/teams/org"
    records_jsonpath = "$.data[*]"
    scope = "user_read (Drift does not document which scope teams need)"


class AccountsStream(DriftStream):
    """The accounts (companies) of the organisation."""

    name = "accounts"
    path = "/accounts"
    primary_keys = ("accountId",)
    records_jsonpath = "$.data.accounts[*]"
    next_page_token_jsonpath = "$.data.next"  # noqa: S105
    scope = "account_read"
    pagination = ByLink("$.data.next", counter="index", full=ACCOUNTS_PER_PAGE)
    first_page: ClassVar = {"index": 0, "size": ACCOUNTS_PER_PAGE}


class PlaybooksStream(DriftStream):
    """The playbooks that are enabled now."""

    name = "playbooks"
    path = "/playbooks/list"
    records_jsonpath = "$[*]"
    scope = "playbook_read"
