"""Stream maps as the SDK has them; what is wrong with one is said in a line."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import simpleeval
from singer_sdk.exceptions import MapExpressionError, SingerSDKError, StreamMapConfigError
from singer_sdk.mapper import CustomStreamMap, PluginMapper
from singer_sdk.singerlib import Catalog

from tap_drift.compat import override

if TYPE_CHECKING:
    from collections.abc import Sequence


class Mapper(PluginMapper):
    """The maps of the streams that are selected."""

    @override
    def register_raw_streams_from_catalog(self, catalog: Catalog) -> None:
        for entry in catalog.streams:
            name = entry.stream or entry.tap_stream_id
            if entry.metadata.resolve_selection().get((), True):
                super().register_raw_streams_from_catalog(Catalog({entry.tap_stream_id: entry}))
            else:  # its fields are not selected either, so that the SDK would miss its key
                self.stream_maps[name] = [
                    self.default_mapper_type(name, {}, None, self.flattening_options)
                ]

    @override
    def register_raw_stream_schema(
        self, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None
    ) -> None:
        """Make the maps of a stream.

        Raises:
            StreamMapConfigError: One of them is wrong whatever the records are.
        """
        try:
            super().register_raw_stream_schema(stream_name, schema, key_properties)
        except (SingerSDKError, NotImplementedError) as error:
            msg = f"stream_maps, {stream_name}: {error}"
            raise StreamMapConfigError(msg) from error
        fields: dict[str, list[str]] = {}
        for key, made in self.stream_maps_dict.items():
            if isinstance(made, dict) and fnmatch(stream_name, made.get("__source__", key)):
                for field, expression in made.items():
                    fields.setdefault(str(expression), []).append(field)
        for stream_map in self.stream_maps[stream_name]:
            if isinstance(stream_map, CustomStreamMap):
                stream_map.expr_evaluator = _Evaluator(stream_map.expr_evaluator, fields)


class _Evaluator:
    """Evaluates the expressions of a map.

    Args:
        evaluator: The SDK's own.
        fields: The names of the fields that expressions make.
    """

    def __init__(
        self, evaluator: simpleeval.EvalWithCompoundTypes, fields: dict[str, list[str]]
    ) -> None:
        self._evaluator = evaluator
        self._fields = fields
        self.names: dict[str, Any] = {}
        """What an expression may name, as the SDK sets it for every record."""

    def eval(self, expr: str, previously_parsed: Any = None) -> Any:
        """Evaluate an expression.

        Args:
            expr: The expression.
            previously_parsed: The same, parsed.

        Raises:
            MapExpressionError: That can't be done for this record.
        """
        self._evaluator.names = self.names
        try:
            return self._evaluator.eval(expr, previously_parsed=previously_parsed)
        except Exception as error:
            field = " or ".join(self._fields.get(expr, ["a field"]))
            msg = f"stream_maps can't make {field} by {expr!r}: {_explained(error, expr)}"
            raise MapExpressionError(msg) from error


def _explained(error: Exception, expression: str) -> str:
    """Say what is wrong, without the error's own words, which may hold what people wrote."""
    match error:
        case simpleeval.NameNotDefined(name="fake"):
            return "fake needs an extra that is not installed: pip install 'singer-sdk[faker]'."
        case simpleeval.FunctionNotDefined(func_name=str(name)):
            return f"there is no function {name}."
        case simpleeval.NameNotDefined(name=str(name)) | KeyError(args=(str(name),)) if (
            name in expression
        ):
            return f"a record has no {name}. Where it may be absent, write record.get({name!r})."
        case _:
            return f"a record does not suit it ({type(error).__name__})."
