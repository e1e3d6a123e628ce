"""BATCH messages: records in files."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import fsspec
from singer_sdk.batch import Batcher
from singer_sdk.exceptions import ConfigValidationError, SingerSDKError
from singer_sdk.helpers._batch import BatchConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk import Stream
    from singer_sdk.singerlib import RecordMessage


def mistakes(config: Any) -> list[str]:
    """Check what JSON Schema can't, so that a run fails before it has read anything.

    Args:
        config: The setting `batch_config`; empty or `None` if there are to be no files.

    Returns:
        A line for each mistake.
    """
    if not config or not isinstance(config, dict):
        return []
    lines = [
        f"batch_config lacks {part}.{name}, without which no file can be written."
        for part, name in (("encoding", "format"), ("storage", "root"))
        if not (isinstance(config.get(part), dict) and config[part].get(name))
    ]
    if lines:
        return lines
    try:
        batch_config = BatchConfig.from_dict(config)
    except TypeError as error:
        return [f"batch_config can't be used: it {str(error).rpartition('__init__() ')[2]}."]
    if batch_config.encoding.format == "parquet" and not importlib.util.find_spec("pyarrow"):
        lines.append(
            "batch_config.encoding.format is parquet, which needs an extra that is not installed: "
            "pip install 'singer-sdk[parquet]'."
        )
    scheme = fsspec.core.split_protocol(batch_config.storage.root)[0] or "file"
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = " (or: pip install 'singer-sdk[s3]')" if scheme in {"s3", "s3a"} else ""
        lines.append(
            f"batch_config.storage.root begins with {scheme}://, which needs an extra that is not "
            f"installed: {error}{extra}."
        )
    except ValueError:
        lines.append(f"batch_config.storage.root begins with {scheme}://, which is not known.")
    return lines


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
        SingerSDKError: A file can't be written.
    """
    if len(stream.stream_maps) > 1:
        msg = f"{stream.name}: BATCH can't be combined with a stream map that copies a stream."
        raise ConfigValidationError(msg, errors=[msg])
    batcher = Batcher(tap_name=stream.tap_name, stream_name=stream.name, batch_config=batch_config)
    try:
        yield from batcher.get_batches(records=(message.record for message in messages))
    except OSError as error:
        msg = f"no file can be written where batch_config.storage is ({error.strerror or error})."
        raise SingerSDKError(msg) from error
