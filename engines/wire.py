"""Messages between the server and the process that owns the model: a JSON head and raw samples, over a pipe.

A frame is two little-endian 32-bit lengths, the head, the payload. Heads hold plain data only: nothing that comes
through this pipe is ever executed or unpickled.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
from typing import Any, BinaryIO

from engines.base import (
    ChunkOutcome,
    ChunkRequest,
    EngineInfo,
    ModelInfo,
    Sampling,
    ValidationWish,
    VoicePrompt,
    WindowRequest,
    Work,
)
from utils.audio.waveform import Waveform

LENGTHS = struct.Struct("<II")
Head = dict[str, Any]
Payload = bytes | memoryview


def pack(head: Head, payload: Payload = b"") -> bytes:
    text = json.dumps(head).encode("ascii")
    return b"".join((LENGTHS.pack(len(text), len(payload)), text, payload))


async def read_frame(stream: asyncio.StreamReader) -> tuple[Head, bytes] | None:
    """The next frame, or None when the other side is gone."""
    try:
        head_size, payload_size = LENGTHS.unpack(await stream.readexactly(LENGTHS.size))
        head = json.loads(await stream.readexactly(head_size))
        return head, await stream.readexactly(payload_size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def read_frame_blocking(stream: BinaryIO) -> tuple[Head, bytes] | None:
    """As `read_frame`, for a thread."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head_size, payload_size = LENGTHS.unpack(lengths)
    head, payload = stream.read(head_size), stream.read(payload_size)
    if len(head) < head_size or len(payload) < payload_size:
        return None
    return json.loads(head), payload


def samples_of(waveform: Waveform) -> Payload:
    import numpy as np

    return np.ascontiguousarray(waveform.samples, dtype="<f4").data.cast("B")


def work_to_frame(work: Work) -> tuple[Head, Payload]:
    """Head and payload of a piece of work, without what names the job."""
    if isinstance(work, ChunkRequest):
        return {"type": "speak", "chunk": dataclasses.asdict(work)}, b""
    plain = {field.name: getattr(work, field.name) for field in dataclasses.fields(work) if field.name != "audio"}
    plain["voice"] = dataclasses.asdict(work.voice)
    return {"type": "convert", "window": plain, "sample_rate": work.audio.sample_rate}, samples_of(work.audio)


def work_from_frame(head: Head, payload: bytes) -> Work:
    if head["type"] == "speak":
        chunk = head["chunk"]
        wish = chunk["validation"]
        return ChunkRequest(
            **{
                **chunk,
                "voice": VoicePrompt(**chunk["voice"]),
                "sampling": Sampling(**chunk["sampling"]),
                "validation": wish and ValidationWish(**wish),
            }
        )
    window = head["window"]
    audio = Waveform.of_bytes(payload, head["sample_rate"])
    return WindowRequest(**{**window, "voice": VoicePrompt(**window["voice"]), "audio": audio})


def outcome_from_head(head: Head) -> ChunkOutcome:
    return ChunkOutcome(**{**head, "remarks": tuple(head["remarks"])})


def info_to_head(info: EngineInfo) -> Head:
    models = [{**dataclasses.asdict(model), "takes": sorted(model.takes)} for model in info.models]
    return {**dataclasses.asdict(info), "models": models}


def info_from_head(head: Head) -> EngineInfo:
    models = tuple(
        ModelInfo(
            **{
                **model,
                "voices": tuple(model["voices"]),
                "languages": tuple(model["languages"]),
                "takes": frozenset(model["takes"]),
            }
        )
        for model in head["models"]
    )
    return EngineInfo(**{**head, "models": models})
