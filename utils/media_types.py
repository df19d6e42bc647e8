"""What a body says it is: its media type alone, without the parameters that any client may make up."""

from __future__ import annotations

FORM = "multipart/form-data"


def media_type(content_type: str) -> str:
    """`type/subtype` of a Content-Type header, in lower case; empty if it names none."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """True if this Content-Type header means JSON."""
    kind = media_type(content_type)
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
