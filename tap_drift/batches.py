"""BATCH messages: records in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from singer_sdk.batch import Batcher
from singer_sdk.exceptions import ConfigValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk import Stream
    from singer_sdk.helpers._batch import BatchConfig
    from singer_sdk.singerlib import RecordMessage


def in_files(
    stream: Stream, batch_config: BatchConfig, messages: Iterable[RecordMessage]
) -> Iterator[list[str]]:
    """Write records to files.

    Args:
        stream: Whose they are.
        batch_config: Where, and how many to a file.
        messages: The records.

    Yields:
        The names of files, as soon as they are closed.

    Raises:
        ConfigValidationError: A stream map copies the stream: a BATCH message names one.
    """
    if len(stream.stream_maps) > 1:
        msg = f"{stream.name}: BATCH can't be combined with a stream map that copies a stream."
        raise ConfigValidationError(msg, errors=[msg])
    batcher = Batcher(tap_name=stream.tap_name, stream_name=stream.name, batch_config=batch_config)
    yield from batcher.get_batches(records=(message.record for message in messages))
