"""The tap: its settings and its list of streams."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from singer_sdk.exceptions import ConfigValidationError

from tap_drift import batches, given, settings, streams
from tap_drift.compat import override
from tap_drift.drift import Drift
from tap_drift.maps import Mapper
from tap_drift.output import mask
from tap_drift.owner import Owner
from tap_drift.progress import Census
from tap_drift.runs import RunningTap
from tap_drift.workers import starting_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from singer_sdk import Stream

    from tap_drift.stream import DriftStream

STREAMS: tuple[type[DriftStream], ...] = (
    streams.ContactAttributesStream,
    streams.UsersStream,
    streams.TeamsStream,
    streams.PlaybooksStream,
    streams.LandingPagesStream,
    streams.ConversationStatsStream,
    streams.BookedMeetingsStream,
    streams.AccountsStream,
    streams.ConversationsStream,
    streams.ConversationMetricsStream,
    streams.ContactsStream,
    streams.ConversationDetailsStream,
    streams.MessagesStream,
    streams.TranscriptsStream,
    streams.AttachmentsStream,
)
"""In the order in which they are read: what takes a request or two comes first, so that a missing
scope shows in the first seconds and not after hours."""


class TapDrift(RunningTap):
    """Singer tap for Drift: conversations and all that belongs to them."""

    name = "tap-drift"

    config_jsonschema = settings.SCHEMA

    def __init__(
        self, *, parse_env_config: bool = False, catalog: Any = None, **kwargs: Any
    ) -> None:
        """Create the tap, as every tap is created.

        Raises:
            ConfigValidationError: A setting is missing or wrong, or the catalog or the state is.
        """
        prefix = str(self._env_var_prefix)
        self._declared = self._all_settings()
        self._variables = given.variables(self._declared, prefix) if parse_env_config else {}
        if isinstance(catalog, dict):
            try:
                catalog = given.catalog(catalog)
            except ValueError as error:
                raise ConfigValidationError(str(error), errors=list(error.args)) from None
            names = [entry["tap_stream_id"] for entry in catalog["streams"]]
            known = [str(stream.name) for stream in STREAMS]  # type: ignore[misc]
            self.say(given.unknown("stream", names, known))
        # Also where the variables are Meltano's to read: it says nothing.
        self.say(given.likely_mistyped([*self._declared, "loglevel"], prefix))
        super().__init__(parse_env_config=parse_env_config, catalog=catalog, **kwargs)

    @classmethod
    def _all_settings(cls) -> dict[str, Any]:
        """Give the settings and what JSON Schema says of them, with those of the SDK."""
        schema = copy.deepcopy(cls.config_jsonschema)
        cls.append_builtin_config(schema)
        return dict(schema["properties"])

    # Private in the SDK, whose own takes an empty variable for a value, and names none.
    @property
    @override
    def _env_var_config(self) -> dict[str, Any]:
        try:
            return {
                name: given.value(variable, name, self._declared[name], self._env_var_prefix)
                for name, variable in self._variables.items()
            }
        except ValueError as error:
            raise given.mistake(str(error)) from None

    # Private in the SDK, and the only place where settings can be checked beyond JSON Schema.
    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        errors: list[str] = []
        self._config = settings.as_meant(self._config)
        try:
            super()._validate_config(raise_errors=True)
        except ConfigValidationError as error:
            errors = error.errors
        token = self._config.get("access_token")
        if token:
            errors = [error.replace(repr(token), "***") for error in errors]
        if settings.is_token(token):
            mask(token)
        errors = settings.mistakes(self._config, errors, self._variables)
        errors += batches.mistakes(self._config.get("batch_config"))
        if raise_errors:
            names = [name for name in self._config if not name.startswith("_")]  # Meltano's extras
            self.say(given.unknown("setting", names, self._declared))
            self.say(settings.warnings(self._config))
        if errors and raise_errors:
            msg = "Some settings are wrong."
            raise ConfigValidationError(msg, errors=errors, schema=self.config_jsonschema)
        return errors

    @override
    def setup_mapper(self) -> None:
        """Make the stream maps."""
        self.mapper = Mapper(plugin_config=dict(self.config), logger=self.logger)
        self.mapper.register_raw_streams_from_catalog(self.catalog)

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the state of an earlier run, if it has the shape of one."""
        try:
            bookmarks = given.bookmarks(state)
        except ValueError as error:
            line = f'The state is damaged ({error}). It looks like {{"bookmarks": {{...}}}}.'
            raise given.mistake(line) from None
        # The SDK's own notes on runs that did not finish: no stream of this tap needs them.
        notes = {"progress_markers", "partitions"}
        own = {
            name: {k: v for k, v in of.items() if k not in notes} for name, of in bookmarks.items()
        }
        super().load_state({"bookmarks": own})

    @cached_property
    def drift(self) -> Drift:
        """The connections to Drift, shared by all streams."""
        with starting_threads("requests_per_minute"):
            return Drift(
                token=self._token,
                request_timeout=int(self.config["request_timeout"]),
                max_retries=int(self.config["max_retries"]),
                connections=int(self.config["concurrency"]),
                requests_per_minute=self.config.get("requests_per_minute"),
            )

    @cached_property
    def owner(self) -> Owner:
        """Whose token it is."""
        return Owner(self.drift, str(self.config["api_url"]).rstrip("/"), self._token)

    @cached_property
    def census(self) -> Census:
        """How many conversations there are."""
        return Census()

    @property
    def _token(self) -> str:
        return str(self.config.get("access_token") or "")

    @override
    def discover_streams(self) -> Sequence[DriftStream]:
        return [stream(self, self.drift) for stream in STREAMS]

    @cached_property
    @override
    def streams(self) -> dict[str, Stream]:
        """The streams by name, in the order of `STREAMS`: the SDK's own is that of the alphabet."""
        by_name = super().streams
        return {str(of.name): by_name[str(of.name)] for of in STREAMS}  # type: ignore[misc]
