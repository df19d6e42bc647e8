"""`/v1/audio/voices`: which voices there are, and making some from samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from api_models.openai import CreateVoice, Voice, VoiceDeleted, VoiceList
from management.stored import Selection, StoredFile
from management.voices import ID, Voices
from resilience.errors import FileMissing, InvalidAudio, InvalidRequest, UnsupportedAudio
from routes.deps import HostDep, LibrariesDep, SettingsDep, VoicesDep, in_heavy_thread
from routes.openai.envelope import FAILURES, blamed_on
from routes.openai.names import STARTED_AT, lost_names, names_beside_library
from routes.uploads import FIELD_BYTES, MOST_FIELDS, SAMPLE_BYTES, UploadRoute
from utils.media_types import is_json
from utils.text.fold import fold


class SampleRoute(UploadRoute):
    """A prompt for a voice may come as JSON, which is no reason to speak of the form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_form = "max_files" in self.form_limits

        async def no_prompt(request: Request) -> Response:
            if takes_form and is_json(request.headers.get("content-type", "")):
                raise InvalidRequest(
                    "a voice is made from an audio sample here, sent as multipart/form-data; none from a prompt",
                    field="type",
                )
            return await handle(request)

        return no_prompt


router = APIRouter(prefix="/v1/audio", tags=["openai"], route_class=SampleRoute, responses=FAILURES)


@router.head("/voices", include_in_schema=False)
@router.get("/voices", summary="List voices (OpenAI)", response_model=VoiceList)
async def list_voices(voices: VoicesDep, host: HostDep, settings: SettingsDep, legacy: bool = False) -> Response:
    """The voices of the library, those of the engine, and OpenAI's names."""
    engine, mapped = host.info, settings.openai.voices

    def listed() -> str:
        lost = lost_names(engine.models[0], voices, mapped) if engine else []
        names = [name for name in names_beside_library(engine, mapped) if name not in lost]
        found = [*_recorded(voices), *_built_in(names)]
        return VoiceList(data=found, voices=[voice.id for voice in found] if legacy else found).model_dump_json()

    return Response(await asyncio.to_thread(listed), media_type="application/json")


@router.post(
    "/voices",
    summary="Make a voice from a sample (OpenAI)",
    form_limits={"max_files": 1, "max_fields": MOST_FIELDS, "max_part_size": FIELD_BYTES},
)
async def create_voice(
    request: Request,
    form: Annotated[CreateVoice, Form(media_type="multipart/form-data")],
    libraries: LibrariesDep,
    host: HostDep,
    settings: SettingsDep,
) -> Voice:
    """Keep the sample in the library of voices, under an id of its own. A name that means a voice already is 400."""
    if form.consent is not None:
        try:
            await asyncio.to_thread(libraries.consents.get, form.consent)
        except FileMissing as error:
            raise InvalidRequest(error.message, field="consent") from error
    with blamed_on("audio_sample", InvalidAudio, UnsupportedAudio):
        file = await in_heavy_thread(
            request,
            libraries.voices.create,
            form.audio_sample.file,
            form.name,
            consent=form.consent,
            max_bytes=SAMPLE_BYTES,
            taken=names_beside_library(host.info, settings.openai.voices),
        )
    return _voice(file)


@router.delete("/voices/{voice:path}", summary="Delete a voice that was made so (OpenAI)")
async def delete_voice(voice: str, voices: VoicesDep) -> VoiceDeleted:
    """Only what was made here goes; the other voices of the library are deleted by `DELETE /api/v1/voice/{path}`."""
    await asyncio.to_thread(voices.remove_created, voice)
    return VoiceDeleted(id=voice)


def _recorded(voices: Voices) -> list[Voice]:
    found = (_voice(file) for file in voices.store.shelf.select(Selection()))
    return sorted(found, key=lambda voice: fold(voice.name))


def _built_in(names: Iterable[str]) -> list[Voice]:
    return [Voice(id=name, name=name, created_at=STARTED_AT, type="built_in") for name in names]


def _voice(file: StoredFile) -> Voice:
    return Voice(
        id=file.about.get(ID) or file.relative,
        name=file.description.name or file.stem,
        created_at=int(file.created.timestamp()),
        type="audio_sample",
    )
