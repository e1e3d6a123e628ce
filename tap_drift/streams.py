"""The streams: one short class each."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from singer_sdk import SchemaDirectory, StreamSchema

from tap_drift import schemas
from tap_drift.client import DriftStream
from tap_drift.newest_first import ItemsStream, NewestFirstStream

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

    from singer_sdk.helpers.types import Context

    from tap_drift.newest_first import Walk

SCHEMAS = SchemaDirectory(schemas)

ACCOUNTS_PER_PAGE = 65
"""The most that Drift gives at a time, as its clients have it."""


class ConversationsStream(NewestFirstStream):
    """Conversations as Drift's list has them."""

    name = "conversations"
    primary_keys = ("id",)
    replication_key = "updatedAt"
    schema = StreamSchema(SCHEMAS)


class ConversationDetailsStream(ItemsStream):
    """Conversations with what only a request for each one tells: participants, tags, playbook."""

    name = "conversation_details"
    primary_keys = ("id",)
    replication_key = "updatedAt"
    schema = StreamSchema(SCHEMAS)
    selected_by_default = False
    item_path = "/conversations/{}"
    item_jsonpath = "$.data"
    versioned = False


class MessagesStream(ItemsStream):
    """The messages of conversations: all of them, whenever their conversation has changed."""

    name = "messages"
    primary_keys = ("id",)
    replication_key = "conversationUpdatedAt"
    schema = StreamSchema(SCHEMAS)
    selected_by_default = False
    item_path = "/conversations/{}/messages"
    item_jsonpath = "$.data.messages[*]"


class ContactsStream(ItemsStream):
    """The contacts of conversations, each once per walk: Drift has no list of contacts."""

    name = "contacts"
    primary_keys = ("id",)
    replication_key = "conversationUpdatedAt"
    schema = StreamSchema(SCHEMAS)
    selected_by_default = False
    scope = "conversation_read or contact_read"
    item_path = "/contacts/{}"
    item_field = "contactId"
    item_jsonpath = "$.data"

    @override
    def _walk(self, resumed: Walk | None) -> Iterator[dict[str, Any]]:
        # What changed since a walk began is for the next walk to read, in the same run or not.
        self._seen: set[int] = set()
        yield from super()._walk(resumed)

    @override
    def wanted(self, id_: int) -> bool:
        is_new = id_ not in self._seen
        self._seen.add(id_)
        return is_new


class UsersStream(DriftStream):
    """The users of the organisation, bots included."""

    name = "users"
    path = "/users/list"
    primary_keys = ("id",)
    schema = StreamSchema(SCHEMAS)
    selected_by_default = False
    records_jsonpath = "$.data[*]"
    scope = "user_read"


class TeamsStream(DriftStream):
    """The teams of the organisation."""

    name = "teams"
    path = "/teams/org"
    primary_keys = ("id",)
    schema = StreamSchema(SCHEMAS)
    selected_by_default = False
    records_jsonpath = "$.data[*]"
    scope = "user_read (Drift does not document which scope teams need)"


class AccountsStream(DriftStream):
    """The accounts (companies) of the organisation."""

    name = "accounts"
    path = "/accounts"
    primary_keys = ("accountId",)
    schema = StreamSchema(SCHEMAS)
    selected_by_default = False
    records_jsonpath = "$.data.accounts[*]"
    next_page_token_jsonpath = "$.data.next"  # noqa: S105
    scope = "account_read"

    @override
    def get_url_params(
        self, context: Context | None, next_page_token: str | None
    ) -> dict[str, Any]:
        """Take the parameters of the next page out of its URL, which is relative.

        Args:
            context: Not used.
            next_page_token: Such as `/accounts?index=65&size=65`; `None` for the first page.

        Returns:
            `index` (row) and `size` (rows).
        """
        if next_page_token is None:
            return {"index": 0, "size": ACCOUNTS_PER_PAGE}
        return dict(parse_qsl(urlsplit(next_page_token).query))


class PlaybooksStream(DriftStream):
    """The playbooks that are enabled now."""

    name = "playbooks"
    path = "/playbooks/list"
    primary_keys = ("id",)
    schema = StreamSchema(SCHEMAS)
    selected_by_default = False
    records_jsonpath = "$[*]"
    scope = "playbook_read"
