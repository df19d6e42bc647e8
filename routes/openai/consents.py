"""`/v1/audio/voice_consents`: recordings in which people say that their voice may be used."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request

from api_models.openai import Consent, ConsentChanges, ConsentDeleted, ConsentList, ConsentQuery, CreateConsent
from management.stored import StoredFile
from resilience.errors import InvalidAudio, UnsupportedAudio
from routes.deps import LibrariesDep, in_heavy_thread, json_only
from routes.openai.envelope import FAILURES, blamed_on
from routes.uploads import FIELD_BYTES, MOST_FIELDS, SAMPLE_BYTES, UploadRoute

router = APIRouter(prefix="/v1/audio/voice_consents", tags=["openai"], route_class=UploadRoute, responses=FAILURES)


@router.post(
    "",
    summary="Keep a consent (OpenAI)",
    form_limits={"max_files": 1, "max_fields": MOST_FIELDS, "max_part_size": FIELD_BYTES},
)
async def create_consent(
    request: Request,
    form: Annotated[CreateConsent, Form(media_type="multipart/form-data")],
    libraries: LibrariesDep,
) -> Consent:
    """Keep the recording. Nobody listens to what is said in it."""
    with blamed_on("recording", InvalidAudio, UnsupportedAudio):
        file = await in_heavy_thread(
            request,
            libraries.consents.add,
            form.recording.file,
            name=form.name,
            language=form.language,
            max_bytes=SAMPLE_BYTES,
        )
    return _consent(file)


@router.get("", summary="List consents (OpenAI)")
async def list_consents(asked: Annotated[ConsentQuery, Query()], libraries: LibrariesDep) -> ConsentList:
    files, has_more = await asyncio.to_thread(libraries.consents.after, asked.after, asked.limit)
    found = [_consent(file) for file in files]
    first, last = (found[0].id, found[-1].id) if found else (None, None)
    return ConsentList(data=found, first_id=first, last_id=last, has_more=has_more)


@router.get("/{consent}", summary="Tell of a consent (OpenAI)")
async def get_consent(consent: str, libraries: LibrariesDep) -> Consent:
    return _consent(await asyncio.to_thread(libraries.consents.get, consent))


@router.post("/{consent}", summary="Rename a consent (OpenAI)", dependencies=[Depends(json_only)])
async def change_consent(consent: str, body: ConsentChanges, libraries: LibrariesDep) -> Consent:
    return _consent(await asyncio.to_thread(libraries.consents.rename, consent, body.name))


@router.delete("/{consent}", summary="Delete a consent (OpenAI)")
async def delete_consent(consent: str, libraries: LibrariesDep) -> ConsentDeleted:
    """The voices that were made with it stay."""
    await asyncio.to_thread(libraries.consents.remove, consent)
    return ConsentDeleted(id=consent)


def _consent(file: StoredFile) -> Consent:
    return Consent(
        id=file.stem,
        name=file.description.name,
        language=file.about["language"],
        created_at=int(file.created.timestamp()),
    )
