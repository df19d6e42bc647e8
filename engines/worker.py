"""The child process: owns the model, takes chunks from the pipe, sends waveforms back as they are ready.

It ends when the server does: the end of its input, or a new parent, is the sign.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engines import registry
from engines.base import (
    Cancellation,
    Cancelled,
    ChunkOutcome,
    ChunkRequest,
    Conditionals,
    EngineInfo,
    SpeechEngine,
    VoicePrompt,
    derived_seed,
)
from engines.conditionals import ConditionalsCache
from engines.wire import Head, chunk_from_head, info_to_head, pack, read_frame_blocking
from resilience.errors import GenerationFailed, InvalidAudio, ModelUnavailable, SpeechError

logger = logging.getLogger("engines.worker")

HEARTBEAT_S = 1.0
NICENESS = 5  # the server answers `/health` at once even when synthesis takes every core


class Pipe:
    """The way to the server, shared by the threads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, head: Head, payload: bytes | memoryview = b"") -> None:
        frame = memoryview(pack(head, payload))
        with self._lock:
            while frame:
                frame = frame[self._stream.write(frame) :]


class Worker:
    """Speaks chunks in as many threads as the engine takes at once."""

    def __init__(self, engine: SpeechEngine, info: EngineInfo, cache: ConditionalsCache, pipe: Pipe) -> None:
        self._engine = engine
        self._cache = cache
        self._pipe = pipe
        self._threads = ThreadPoolExecutor(info.concurrency, thread_name_prefix="speak")
        self._cancellations: dict[int, Cancellation] = {}

    def take(self, head: Head) -> None:
        match head["type"]:
            case "speak":
                cancellation = self._cancellations[head["job"]] = Cancellation()
                self._threads.submit(self._speak, head["job"], chunk_from_head(head["chunk"]), cancellation)
            case "cancel":
                if known := self._cancellations.get(head["job"]):
                    known.cancel()

    def _speak(self, job: int, chunk: ChunkRequest, cancellation: Cancellation) -> None:
        try:
            cancellation.check()
            conditionals = self._conditionals(chunk.voice, cancellation)
            spoken = self._attempt(job, chunk, conditionals, cancellation)
            outcome: Head = {"type": "done", "outcome": asdict(spoken)}
        except Cancelled:
            outcome = {"type": "cancelled"}
        except SpeechError as error:
            outcome = {"type": "failed", "code": error.code, "message": error.message}
        except Exception:  # the outermost frame of the work: one broken chunk must not take the process along
            logger.exception("chunk failed request=%s characters=%d", chunk.request_id, len(chunk.text))
            outcome = {"type": "failed", "code": GenerationFailed.code, "message": "the engine failed on this text"}
        self._cancellations.pop(job, None)
        self._pipe.send({**outcome, "job": job})

    def _attempt(
        self, job: int, chunk: ChunkRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> ChunkOutcome:
        """Speak the chunk, again with another seed if that fails before anything of it has been sent."""
        for attempt in itertools.count(1):
            seed = chunk.seed if attempt == 1 else derived_seed(chunk.seed, attempt)
            sent = False
            try:
                for waveform in self._engine.speak(replace(chunk, seed=seed), conditionals, cancellation):
                    cancellation.check()
                    samples = np.ascontiguousarray(waveform.samples, dtype="<f4")
                    head = {"type": "piece", "job": job, "sample_rate": waveform.sample_rate}
                    self._pipe.send(head, samples.data.cast("B"))
                    sent = True
                return ChunkOutcome(seed, attempt)
            except GenerationFailed:
                if sent or attempt >= chunk.max_attempts:
                    raise
        raise AssertionError("unreachable")

    def _conditionals(self, voice: VoicePrompt, cancellation: Cancellation) -> Conditionals | None:
        if voice.path is None or voice.content_hash is None:
            return None
        prepare = partial(self._prepare, voice.name, Path(voice.path), voice.content_hash, cancellation)
        return self._cache.get(voice.content_hash, prepare, cancellation)

    def _prepare(self, name: str, path: Path, content_hash: str, cancellation: Cancellation) -> Conditionals:
        """Prepared voices are kept by content, so the bytes listened to must be the ones that the server saw."""
        try:
            with path.open("rb") as recording:
                if hashlib.file_digest(recording, "sha256").hexdigest() != content_hash:
                    raise InvalidAudio(f"the voice {name} was changed while it was being read")
                recording.seek(0)
                return self._engine.prepare(recording, cancellation)
        except OSError as error:
            raise InvalidAudio(f"the voice {name} cannot be read any more") from error


def main() -> None:
    # A library that prints must not write into the pipe, so standard output becomes standard error.
    pipe = Pipe(os.fdopen(os.dup(1), "wb", buffering=0))
    os.dup2(2, 1)
    # A stop signal to the whole process group is the server's to act on: it ends this process by its pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    incoming = sys.stdin.buffer
    start = read_frame_blocking(incoming)
    if start is None:
        return
    threading.Thread(target=_beat, args=(pipe, os.getppid()), daemon=True, name="heartbeat").start()
    head = start[0]
    logging.basicConfig(level=head["log_level"], format="%(message)s", handlers=[PipeLog(pipe)])
    try:
        choice = registry.choose(registry.Wish(**head["wish"]))
        engine = choice.make()
        info = engine.load()
    except ModelUnavailable as error:
        pipe.send({"type": "unavailable", "message": error.message})
        return
    pipe.send({"type": "ready", "info": info_to_head(info), "notices": choice.notices})
    worker = Worker(engine, info, ConditionalsCache(head["voice_cache_bytes"]), pipe)
    while frame := read_frame_blocking(incoming):
        worker.take(frame[0])
    os._exit(0)  # the server is gone; threads deep in a model must not keep the process


def _beat(pipe: Pipe, parent: int) -> None:
    with contextlib.suppress(OSError):
        while os.getppid() == parent:
            pipe.send({"type": "beat"})
            time.sleep(HEARTBEAT_S)
    os._exit(0)


class PipeLog(logging.Handler):
    """Sends log records to the server, so that one process writes the log, in one format."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        self._pipe.send({"type": "log", "level": record.levelno, "logger": record.name, "message": message})


if __name__ == "__main__":
    main()
