"""How a client wants to have its audio: `response_mode` and `return_format`, of the query or of the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Query

from api_models.bodies import FormatName, ResponseMode
from config.settings import ExportSettings, SoundSettings
from mastering import NEED_THE_WHOLE, switched_on
from resilience.errors import InvalidRequest

ModeQuery = Annotated[
    ResponseMode | None,
    Query(
        description="stream (or file, download): the finished file; url (or json): a description of the files; "
        "live: audio while it is made"
    ),
]
FormatQuery = Annotated[
    FormatName | None, Query(description="which of `export_formats` to send; the first of them if left out")
]

MODES: dict[str, Literal["file", "json", "live"]] = {
    "stream": "file",
    "file": "file",
    "download": "file",
    "url": "json",
    "json": "json",
    "live": "live",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    mode: Literal["file", "json", "live"]
    format: FormatName


def delivery(
    *,
    query: tuple[ResponseMode | None, FormatName | None],
    body: tuple[ResponseMode | None, FormatName | None],
    options: ExportSettings,
    save: bool | None = None,
) -> Delivery:
    """Mode and format in force for a request of these options. Raises InvalidRequest naming the field.

    `save` is what the body says of it: only live audio can be sent without being kept.
    """
    made = options.export_formats
    mode = MODES[query[0] or body[0] or "stream"]
    chosen = query[1] or body[1]
    where = "query" if query[1] else "body"
    if chosen and chosen not in made:
        raise InvalidRequest(
            f"{chosen} is not among the export_formats of this request: {', '.join(made)}",
            field="return_format",
            where=where,
        )
    if save is False and mode != "live":
        raise InvalidRequest("only live audio can be sent without being kept: response_mode=live", field="save")
    if mode == "live":
        assert isinstance(options, SoundSettings)  # nothing else is heard while it is made
        check_live(options)
    return Delivery(mode, chosen or made[0])


def check_live(options: SoundSettings) -> None:
    """Raise InvalidRequest, naming the field, if something is asked for that live audio cannot have."""
    for switch in switched_on(options):
        if switch in NEED_THE_WHOLE:
            raise InvalidRequest(
                f"{switch} needs the whole of the audio, and live audio leaves before it is whole",
                field=switch,
                kind="not_live",
            )
