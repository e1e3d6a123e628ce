"""`python -m tests.plugin_definition` writes down what the tap says of itself.

That is the definition for Meltano and its Hub, the tap's part of `meltano.yml`, the addresses in
`pyproject.toml`, and the tables of streams and settings in the README and in `docs/`.
"""

from __future__ import annotations

import io
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from tap_drift.tap import STREAMS, TapDrift
from tests import tables

if TYPE_CHECKING:
    from collections.abc import Iterable

# Where the project is published: nothing else names these.
OWNER = "OWNER"
VARIANT = OWNER.lower()
REPOSITORY = f"https://github.com/{OWNER}/tap-drift"
PIP_URL = "tap-drift"

PROJECT = Path(__file__).parents[1]
DEFINITION = PROJECT / "plugin.yml"
MELTANO = PROJECT / "meltano.yml"
PYPROJECT = PROJECT / "pyproject.toml"
README = PROJECT / "README.md"
STREAM_TABLES = PROJECT / "docs" / "streams.md"
SETTINGS = PROJECT / "docs" / "settings.md"
CONTRIBUTING = PROJECT / ".github" / "CONTRIBUTING.md"

CAPABILITIES = (
    "catalog",
    "state",
    "discover",
    "about",
    "stream-maps",
    "schema-flattening",
    "activate-version",
    "batch",
    "structured-logging",
)
"""What the Hub has a word for."""

SDK_SETTINGS = (
    "stream_maps",
    "stream_map_config",
    "flattening_enabled",
    "flattening_max_depth",
    "flattening_max_key_length",
    "flattening_separator",
    "batch_config.encoding.format",
    "batch_config.encoding.compression",
    "batch_config.storage.root",
    "batch_config.storage.prefix",
)
"""Settings of the SDK that both supported versions have, and that do something here."""

SDK_SETTINGS_LEFT_OUT = ("faker_config",)
"""The tap does not bring Faker."""

SDK_OPTIONS = {
    "batch_config.encoding.format": ["jsonl"],
    "batch_config.encoding.compression": ["gzip"],
}
"""What works without an extra of the SDK, whose versions do not agree on these."""

LOG_PARSER = "singer-sdk"

REQUIRES_MELTANO = ">=4"
"""What the project is tested with; pyproject.toml has the same."""

KINDS = {"integer", "boolean", "array", "object"}

Json = dict[str, Any]


def main() -> None:
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")


def rendered() -> dict[Path, str]:
    """Every file that tells of the tap, as it should be."""
    schema: Json = {
        "type": "object",
        "properties": dict(TapDrift.config_jsonschema["properties"]),
        "required": TapDrift.config_jsonschema["required"],
    }
    TapDrift.append_builtin_config(schema)
    of_sdk = {name.partition(".")[0] for name in (*SDK_SETTINGS, *SDK_SETTINGS_LEFT_OUT)}
    own = {name: value for name, value in schema["properties"].items() if name not in of_sdk}
    settings = [setting(name, value) for name, value in own.items()]
    settings += [setting(name, below(schema, name)) for name in SDK_SETTINGS]
    offered = {capability.value for capability in TapDrift.capabilities}
    capabilities = [name for name in CAPABILITIES if name in offered]
    return {
        DEFINITION: definition(settings, capabilities, schema["required"]),
        MELTANO: meltano(settings, capabilities, schema["required"]),
        PYPROJECT: marked(PYPROJECT, "urls", urls(), ("# ", "")),
        README: marked(README, "streams", tables.streams_in_short()),
        STREAM_TABLES: marked(STREAM_TABLES, "streams", tables.streams_in_full()),
        SETTINGS: marked(SETTINGS, "settings", tables.settings(own, schema["required"])),
        CONTRIBUTING: marked(CONTRIBUTING, "published", published()),
    }


def below(schema: Json, dotted: str) -> Json:
    for name in dotted.split("."):
        schema = schema["properties"][name]
    return schema


def setting(name: str, schema: Json) -> Json:
    """A setting in Meltano's words."""
    options = SDK_OPTIONS.get(name, schema.get("enum"))
    kind = next((type_ for type_ in schema["type"] if type_ in KINDS), "string")
    if options:
        kind = "options"
    elif schema.get("format") == "date-time":
        kind = "date_iso8601"
    # In the order that Meltano writes them in when it changes meltano.yml.
    found: Json = {"name": name, "kind": kind}
    if "default" in schema:
        found["value"] = schema["default"]
    found |= {"label": schema["title"], "description": schema["description"]}
    if options:
        found["options"] = [{"label": option, "value": option} for option in options]
    if schema.get("secret"):
        found["sensitive"] = True
    return found


def definition(settings: list[Json], capabilities: list[str], required: list[str]) -> str:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    return as_yaml(
        {
            "name": "tap-drift",
            "namespace": "tap_drift",
            "variant": VARIANT,
            "label": "Drift",
            "description": "Conversational marketing and sales platform",
            "docs": f"{REPOSITORY}#readme",
            "repo": REPOSITORY,
            "domain_url": "https://www.drift.com/",
            "logo_url": "/assets/logos/extractors/drift.png",
            "keywords": ["api", "meltano_sdk"],
            "maintenance_status": "active",
            "quality": "unknown",
            "pip_url": PIP_URL,
            "executable": "tap-drift",
            "supported_python_versions": pythons,
            "capabilities": capabilities,
            "log_parser": LOG_PARSER,
            "select": selected(),
            "next_steps": (
                "Only conversations are read at first. `meltano select tap-drift --list --all` "
                "shows what else there is, `meltano select tap-drift messages '*'` adds it."
            ),
            "settings_group_validation": [required],
            "settings": settings,
        }
    )


def meltano(settings: list[Json], capabilities: list[str], required: list[str]) -> str:
    """The project's own `meltano.yml`; what has no other source stays."""
    content = yaml().load(MELTANO.read_text(encoding="utf-8"))
    (tap,) = (one for one in content["plugins"]["extractors"] if one["name"] == "tap-drift")
    tap |= {
        "capabilities": capabilities,
        "settings_group_validation": [required],
        "settings": settings,
        "select": selected(),
        "log_parser": LOG_PARSER,
    }
    # In the order that Meltano writes them in when it changes meltano.yml.
    for key in ("settings_group_validation", "settings", "select", "log_parser"):
        tap.move_to_end(key)
    content["requires_meltano"] = REQUIRES_MELTANO
    return as_yaml(content)


def selected() -> list[str]:
    """What is read unless a user asks for more."""
    return [f"{stream.name}.*" for stream in STREAMS if stream.selected_by_default]  # type: ignore[misc]


def urls() -> list[str]:
    """Where the project is found, for PyPI."""
    return [
        f'urls.Changelog = "{REPOSITORY}/blob/main/.github/CHANGELOG.md"',
        f'urls.Documentation = "{REPOSITORY}#readme"',
        f'urls.Issues = "{REPOSITORY}/issues"',
        f'urls.Source = "{REPOSITORY}"',
    ]


def published() -> list[str]:
    return [f"    REPOSITORY={REPOSITORY}", f"    PACKAGE={PIP_URL}"]


def marked(
    path: Path, name: str, lines: Iterable[str], mark: tuple[str, str] = ("<!-- ", " -->")
) -> str:
    """A file with these lines between two marks: comments with a name, the second with a slash."""
    text = path.read_text(encoding="utf-8")
    begin, end = (f"{mark[0]}{slash}{name}{mark[1]}\n" for slash in ("", "/"))
    if text.count(begin) != 1 or text.count(end) != 1:
        msg = (
            f"{path.name} needs one line {begin.strip()} and one line {end.strip()}: what the tap "
            "says goes between."
        )
        raise SystemExit(msg)
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    is_markdown = path.suffix == ".md"
    between = ["", *lines, ""] if is_markdown else list(lines)
    return f"{before}{begin}" + "".join(f"{line}\n" for line in between) + f"{end}{after}"


def as_yaml(content: Json) -> str:
    stream = io.StringIO()
    yaml().dump(content, stream)
    return stream.getvalue()


def yaml() -> YAML:
    """The library that Meltano itself writes `meltano.yml` with."""
    library = YAML()
    library.width = 1000  # folded lines would end in spaces
    return library


if __name__ == "__main__":
    main()
