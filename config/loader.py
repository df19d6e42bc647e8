"""config.yaml < environment (`CHATTERBOX_SERVER__PORT`) < arguments, checked as one.

What is wrong is reported with the key and where it was written, all of it at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from config.settings import Settings

PREFIX = "CHATTERBOX_"
Key = tuple[str, str]


class ConfigurationError(Exception):
    """Settings that cannot be used; one line for each fault, naming the key and where it stands."""


def load(config_file: Path | None, environment: Mapping[str, str], arguments: Mapping[Key, Any]) -> Settings:
    """Merge the three sources. A missing `config_file` is an error; None means none.

    `arguments` maps keys such as ("server", "port") to values; those that are None were not given.
    Raises ConfigurationError.
    """
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    for source in (_from_file(config_file), _from_environment(environment), _from_arguments(arguments)):
        for key, value, origin in source:
            values[key] = value
            origins[key] = origin
    try:
        return Settings.model_validate(_nested(values))
    except ValidationError as error:
        raise ConfigurationError("\n".join(_sentences(error, origins))) from error


def _from_file(path: Path | None) -> Iterator[tuple[Key, Any, str]]:
    if path is None:
        return
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not YAML: {error}") from error
    if root is None:
        return
    for section, section_node, _ in _pairs(root, "the document", path):
        if isinstance(section_node, yaml.ScalarNode) and _plain(section_node) is None:
            continue  # a section with nothing but comments under it
        for name, node, line in _pairs(section_node, section, path):
            yield (section, name), _plain(node), line


def _pairs(node: yaml.Node, name: str, path: Path) -> Iterator[tuple[str, yaml.Node, str]]:
    """The keys of a mapping, each once, with their values and the place where they are written."""
    if not isinstance(node, yaml.MappingNode):
        place = f"{path}, line {node.start_mark.line + 1}"
        raise ConfigurationError(f"{place}: {name} must be a section with settings under it{_hint((name,))}")
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = str(key_node.value)
        place = f"{path}, line {key_node.start_mark.line + 1}"
        if key in seen:
            raise ConfigurationError(f"{place}: {key} is written twice in {name}")
        seen.add(key)
        yield key, value_node, place


def _plain(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[Key, Any, str]]:
    for name, text in sorted(environment.items()):
        if name.startswith(PREFIX):
            section, separator, key = name.removeprefix(PREFIX).partition("__")
            if not separator:
                form = f"{PREFIX}SECTION__SETTING"
                raise ConfigurationError(f"environment variable {name}: no such setting; they are named {form}")
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError:
                value = text
            yield (section.lower(), key.lower()), value, f"environment variable {name}"


def _from_arguments(arguments: Mapping[Key, Any]) -> Iterator[tuple[Key, Any, str]]:
    for key, value in arguments.items():
        if value is not None:
            yield key, value, f"argument for {'.'.join(key)}"


def _nested(values: Mapping[Key, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (section, name), value in values.items():
        tree.setdefault(section, {})[name] = value
    return tree


def _sentences(error: ValidationError, origins: Mapping[Key, str]) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False):
        key = tuple(str(part) for part in fault["loc"][:2])
        where = next((place for other, place in origins.items() if other[: len(key)] == key), "settings")
        problem = "no such setting" + _hint(key) if fault["type"] == "extra_forbidden" else fault["msg"]
        yield f"{where}: {'.'.join(key)}: {problem}"


def _hint(key: tuple[str, ...]) -> str:
    """A key that exists and looks like this one, as the end of a sentence; often nothing."""
    sections = {name: type(section) for name, section in Settings()}
    section = sections.get(key[0])
    known = section.model_fields if section and len(key) > 1 else sections
    close = [name for name in difflib.get_close_matches(key[-1], known, n=1) if name != key[-1]]
    return f"; did you mean {close[0]}?" if close else ""
