"""Print config.yaml and docs/configuration.md from the settings: `python -m config.document`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from config.settings import Section, Settings

PROJECT = Path(__file__).resolve().parent.parent

YAML_HEAD = """\
# Chatterbox TTS Extended Plus: every setting with its default. A line may be left out: the default holds.
# The same settings can come from the environment, for example CHATTERBOX_SERVER__PORT=8080, which wins over this file.
# Arguments (--host --port --engine --model --weights --device --data-dir) win over both.
# A misspelt key or a value out of range stops the start.
"""

MARKDOWN_HEAD = """\
# Configuration

`config.yaml` holds every setting with its default; `docs/configuration.md` and the file itself are printed from
`config/settings.py` by `python -m config.document`, and a test keeps them equal.

Sources, each over the one before:

1. `config.yaml` beside `main_api.py`, or the file that `--config` names;
2. the environment: `CHATTERBOX_` + section + `__` + setting, for example `CHATTERBOX_SERVER__PORT=8080`; values are
   read as YAML, so `null`, `true` and `[wav, mp3]` mean what they mean in the file;
3. arguments: `--host`, `--port`, `--engine`, `--model`, `--weights`, `--device`, `--data-dir`.

A misspelt key, a key written twice, a wrong type or a value out of range stops the start with the key, the file and
the line. Nothing is changed while the server runs.
"""


def config_yaml() -> str:
    lines = [YAML_HEAD]
    for name, section in _sections():
        lines.append(f"{name}:  # {_about(section)}")
        for key, field in type(section).model_fields.items():
            lines.append(f"  # {field.description}{_range(field, prefix='; ')}")
            lines.append(f"  {key}: {_value(getattr(section, key))}")
        lines.append("")
    return "\n".join(lines)


def configuration_markdown() -> str:
    lines = [MARKDOWN_HEAD]
    for name, section in _sections():
        lines += [
            f"## `{name}`",
            "",
            _about(section),
            "",
            "| setting | default | range | meaning |",
            "| --- | --- | --- | --- |",
        ]
        for key, field in type(section).model_fields.items():
            default = f"`{_value(getattr(section, key))}`".replace("|", "\\|")
            lines.append(f"| `{key}` | {default} | {_range(field)} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def _sections() -> Iterator[tuple[str, Section]]:
    settings = Settings()
    for name in Settings.model_fields:
        yield name, getattr(settings, name)


def _about(section: Section) -> str:
    return inspect.getdoc(section) or ""


def _value(value: Any) -> str:
    if isinstance(value, Path):
        return value.as_posix()
    return json.dumps(value.pattern if isinstance(value, re.Pattern) else value)


def _range(field: FieldInfo, prefix: str = "") -> str:
    """What the annotation says of the values: bounds, or the words that are allowed."""
    if get_origin(field.annotation) is Literal:
        return prefix + ", ".join(str(word) for word in get_args(field.annotation))
    words = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
    bounds = []
    for constraint in field.metadata:
        for name, phrase in words.items():
            if (bound := getattr(constraint, name, None)) is not None:
                bounds.append(phrase.format(bound))
    return prefix + " ".join(bounds) if bounds else ""


def main() -> None:
    (PROJECT / "config.yaml").write_text(config_yaml(), encoding="utf-8")
    (PROJECT / "docs" / "configuration.md").write_text(configuration_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
