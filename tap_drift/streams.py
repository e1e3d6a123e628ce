"""The streams: one short class each."""

from __future__ import annotations

from singer_sdk import SchemaDirectory, StreamSchema

from tap_drift import schemas
from tap_drift.newest_first import NewestFirstStream

SCHEMAS = SchemaDirectory(schemas)


class ConversationsStream(NewestFirstStream):
    """Conversations as Drift's list has them."""

    name = "conversations"
    primary_keys = ("id",)
    replication_key = "updatedAt"
    schema = StreamSchema(SCHEMAS)
