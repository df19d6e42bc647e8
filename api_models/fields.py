"""Values that several of the libraries' forms and queries take: names, lists, days."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

LINES = "\n\r\t"  # the control characters that prose may hold
LAST_MOMENT = time(23, 59, 59, 999_999)
FOLDER_NAMES = ("folder_path", "project", "folder")
MAX_FILENAMES = 1000
MAX_PATH = 1024

# Lists


def listed(value: Any) -> Any:
    """The items of a list in a form or query: repeated, comma-separated, or one JSON array, which may hold commas."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return value
    return [item for part in value for item in (_items(part) if isinstance(part, str) else [part])]


def _items(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError):
            pass  # a name that begins with a bracket
        else:
            assert isinstance(items, list)
            return items
    return [item.strip() for item in text.split(",") if item.strip()]


def _not_in_vain(items: list[str]) -> list[str]:
    """A list that was given, and names nothing, is a mistake: as no criterion it would widen a deletion."""
    if not items:
        raise PydanticCustomError("names_nothing", "no file is named; leave it out if every file is meant", {})
    return items


def each_once(items: Iterable[str]) -> list[str]:
    """The items without those that differ from an earlier one in case alone."""
    spellings: dict[str, str] = {}
    for item in items:
        spellings.setdefault(item.casefold(), item)
    return list(spellings.values())


# Texts


def _printable(text: str) -> str:
    return _without(text, ("Cc", "Cs", "Zl", "Zp"), "")


def _prose(text: str) -> str:
    return _without(text, ("Cc", "Cs"), LINES)


def _without(text: str, categories: tuple[str, ...], allowed: str) -> str:
    if any(unicodedata.category(character) in categories and character not in allowed for character in text):
        raise PydanticCustomError("control_character", "control characters are not allowed", {})
    return text


def _stripped(text: Any) -> Any:
    return text.strip() if isinstance(text, str) else text


# Of a text in one line. Its lengths stand before them, next to `str`: else they would be told in "items".
STRIPPED, PRINTABLE = BeforeValidator(_stripped), AfterValidator(_printable)
Title = Annotated[str, StringConstraints(min_length=1, max_length=200), STRIPPED, PRINTABLE]
Description = Annotated[str, StringConstraints(max_length=5000), AfterValidator(_prose)]
Transcript = Annotated[str, StringConstraints(max_length=100_000), AfterValidator(_prose)]
FolderName = Annotated[str, Field(max_length=MAX_PATH)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=50), STRIPPED, PRINTABLE]
Alias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, pattern=r"^[^/\\]*[^/\\.][^/\\]*$"),  # no path
    STRIPPED,
    PRINTABLE,
]

Tags = Annotated[list[Tag], Field(max_length=50), AfterValidator(each_once)]
Aliases = Annotated[list[Alias], Field(max_length=20), AfterValidator(each_once)]
FileNames = Annotated[list[Annotated[str, Field(min_length=1, max_length=MAX_PATH)]], Field(max_length=MAX_FILENAMES)]
ListedTags = Annotated[Tags, BeforeValidator(listed)]
ListedAliases = Annotated[Aliases, BeforeValidator(listed)]
ListedFileNames = Annotated[FileNames, BeforeValidator(listed)]
SomeFileNames = Annotated[FileNames, AfterValidator(_not_in_vain), BeforeValidator(listed)]

# Days


def _first_moment(value: Any) -> Any:
    return _moment(value, time.min)


def _last_moment(value: Any) -> Any:
    return _moment(value, LAST_MOMENT)


def _moment(value: Any, of_day: time) -> Any:
    """A date or date and time by ISO 8601, in UTC; a bare date means this time of that day. None stays None."""
    if not isinstance(value, str):
        return value
    if not value:
        return None
    try:
        try:
            return datetime.combine(date.fromisoformat(value), of_day, UTC)
        except ValueError:
            found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "iso_date", "not an ISO 8601 date such as 2026-11-22 or 2026-11-22T20:15:00+01:00", {}
        ) from None


_AS_TEXT = WithJsonSchema({"type": "string", "examples": ["2026-11-22", "2026-11-22T20:15:00Z"]})
From = Annotated[datetime | None, BeforeValidator(_first_moment), _AS_TEXT]
Until = Annotated[datetime | None, BeforeValidator(_last_moment), _AS_TEXT]

# Folders


def chosen_folder(asked: BaseModel) -> str | None:
    """The folder that a form or query names, under whichever of the names that mean the same; empty is none."""
    return next((name for name in _folders(asked) if name), None)


def refuse_two_folders(asked: BaseModel) -> None:
    """Raise PydanticCustomError if two of the names are given and differ."""
    if len(set(filter(None, _folders(asked)))) > 1:
        fields = [name for name in FOLDER_NAMES if name in type(asked).model_fields]
        raise PydanticCustomError(
            "folder_conflict", "{fields} are the same option; they differ here", {"fields": " and ".join(fields)}
        )


def _folders(asked: BaseModel) -> list[str | None]:
    return [getattr(asked, name, None) for name in FOLDER_NAMES]
