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

from engines.base import ChunkRequest, EngineInfo, Sampling, VoicePrompt

LENGTHS = struct.Struct("<II")
Head = dict[str, Any]


def pack(head: Head, payload: bytes | memoryview = b"") -> bytes:
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
    return json.loads(stream.read(head_size)), stream.read(payload_size)


def chunk_to_head(chunk: ChunkRequest) -> Head:
    return dataclasses.asdict(chunk)


def chunk_from_head(head: Head) -> ChunkRequest:
    return ChunkRequest(**{**head, "voice": VoicePrompt(**head["voice"]), "sampling": Sampling(**head["sampling"])})


def info_to_head(info: EngineInfo) -> Head:
    return {**dataclasses.asdict(info), "takes": sorted(info.takes)}


def info_from_head(head: Head) -> EngineInfo:
    return EngineInfo(
        **{
            **head,
            "voices": tuple(head["voices"]),
            "languages": tuple(head["languages"]),
            "takes": frozenset(head["takes"]),
        }
    )
