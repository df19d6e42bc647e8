"""Does with OpenAI's Python SDK what it is told, one line of JSON at a time: see tests/clients/sdk.py.

Runs in a process of its own that sees one version of the SDK and nothing of ours.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

Answer = dict[str, Any]


def create(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    reply = client.audio.speech.create(**wanted)
    return {"audio": encoded(reply.content), "headers": dict(reply.response.headers)}


def stream(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    """The body as it comes, in pieces."""
    with client.audio.speech.with_streaming_response.create(**wanted) as reply:
        pieces = list(reply.iter_bytes())
        return {"audio": encoded(b"".join(pieces)), "pieces": len(pieces), "request_id": reply.request_id}


def sse(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    """The events of `stream_format="sse"`, read by the SDK's own decoder."""
    body = {**wanted, "stream_format": "sse"}
    events = client.post("/audio/speech", body=body, cast_to=object, stream=True, stream_cls=openai.Stream[object])
    return {"events": list(events)}


def models(client: openai.OpenAI, _: dict[str, Any]) -> Answer:
    return {"models": [model.to_dict() for model in client.models.list()]}


def model(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    found = client.models.retrieve(wanted["model"])
    return {"model": found.to_dict(), "request_id": found._request_id}


def create_voice(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    sample = Path(wanted.pop("audio_sample"))
    made = client.audio.voices.create(audio_sample=(sample.name, sample.read_bytes(), "audio/wav"), **wanted)
    return dict(made.to_dict())


def create_consent(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    recording = Path(wanted.pop("recording"))
    made = client.audio.voice_consents.create(recording=(recording.name, recording.read_bytes(), "audio/wav"), **wanted)
    return dict(made.to_dict())


def delete_voice(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    return dict(client.audio.voices.delete(wanted["voice_id"]).to_dict())


def together(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    """Many requests at once through the asynchronous client; of each the audio, or the name of the error."""

    async def all_of_them() -> list[str | BaseException]:
        asynchronous = openai.AsyncOpenAI(
            base_url=client.base_url, api_key=client.api_key, max_retries=client.max_retries
        )
        async with asynchronous as same:
            calls = (same.audio.speech.create(**wanted["request"]) for _ in range(wanted["times"]))
            replies = await asyncio.gather(*calls, return_exceptions=True)
        return [reply if isinstance(reply, BaseException) else encoded(reply.content) for reply in replies]

    replies = asyncio.run(all_of_them())
    return {"replies": [type(reply).__name__ if isinstance(reply, BaseException) else reply for reply in replies]}


def litellm_speech(client: openai.OpenAI, wanted: dict[str, Any]) -> Answer:
    import litellm

    reply = litellm.speech(api_base=str(client.base_url), api_key=client.api_key, **wanted)
    return {"audio": encoded(reply.content), "headers": dict(reply.response.headers)}


ACTIONS: dict[str, Callable[[openai.OpenAI, dict[str, Any]], Answer]] = {
    action.__name__: action
    for action in (
        create,
        stream,
        sse,
        models,
        model,
        create_consent,
        create_voice,
        delete_voice,
        together,
        litellm_speech,
    )
}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def described(error: openai.OpenAIError) -> Answer:
    told = ("status_code", "code", "param", "type", "request_id", "message")
    return {"class": type(error).__name__, **{name: getattr(error, name, None) for name in told}}


def main() -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for the prices of models
    for line in sys.stdin:
        asked = json.loads(line)
        client = openai.OpenAI(api_key="none", timeout=60, **asked["client"])
        try:
            answer: Answer = {"value": ACTIONS[asked["do"]](client, asked["with"])}
        except openai.OpenAIError as error:
            answer = {"error": described(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
