"""The child process: owns the models, takes work from the pipe, sends waveforms back as they are ready.

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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from engines import registry
from engines.base import (
    Cancellation,
    Cancelled,
    ChunkOutcome,
    ChunkRequest,
    Conditionals,
    EngineInfo,
    LoadProgress,
    Remark,
    SpeechEngine,
    VoicePrompt,
    WindowRequest,
    Work,
    derived_seed,
)
from engines.conditionals import ConditionalsCache
from engines.listening import Listeners, ListeningOptions, spoken_and_heard
from engines.wire import Head, Payload, info_to_head, pack, read_frame_blocking, samples_of, work_from_frame
from resilience.errors import GenerationFailed, InvalidAudio, ModelUnavailable, SpeechError
from utils.audio.waveform import Waveform

logger = logging.getLogger("engines.worker")

HEARTBEAT_S = 1.0
NICENESS = 5  # the server answers `/health` at once even when synthesis takes every core


class Pipe:
    """The way to the server, shared by the threads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, head: Head, payload: Payload = b"") -> None:
        frame = memoryview(pack(head, payload))
        with self._lock:
            while frame:
                frame = frame[self._stream.write(frame) :]

    def send_piece(self, job: int, waveform: Waveform) -> None:
        self.send({"type": "piece", "job": job, "sample_rate": waveform.sample_rate}, samples_of(waveform))


class Worker:
    """Does pieces of work in as many threads as the engine takes at once."""

    def __init__(
        self, engine: SpeechEngine, info: EngineInfo, listeners: Listeners, cache: ConditionalsCache, pipe: Pipe
    ) -> None:
        self._engine = engine
        self._listeners = listeners
        self._cache = cache
        self._pipe = pipe
        self._threads = ThreadPoolExecutor(info.concurrency, thread_name_prefix="speak")
        self._cancellations: dict[int, Cancellation] = {}

    def take(self, head: Head, payload: bytes) -> None:
        job = head["job"]
        if head["type"] == "cancel":
            if known := self._cancellations.get(job):
                known.cancel()
        else:
            cancellation = self._cancellations[job] = Cancellation()
            self._threads.submit(self._do, job, work_from_frame(head, payload), cancellation)

    def _do(self, job: int, work: Work, cancellation: Cancellation) -> None:
        try:
            cancellation.check()
            conditionals = self._conditionals(work.model, work.voice, cancellation)
            if isinstance(work, ChunkRequest):
                outcome = self._speak(job, work, conditionals, cancellation)
            else:
                outcome = self._convert(job, work, conditionals, cancellation)
            answer: Head = {"type": "done", "outcome": asdict(outcome), "status": asdict(self._engine.status())}
        except Cancelled:
            answer = {"type": "cancelled"}
        except SpeechError as error:
            answer = {"type": "failed", "code": error.code, "message": error.message}
        except Exception:  # the outermost frame of the work: one broken piece must not take the process along
            logger.exception("work failed request=%s kind=%s weight=%d", work.request_id, type(work), work.weight)
            answer = {"type": "failed", "code": GenerationFailed.code, "message": "the engine failed on this text"}
        self._cancellations.pop(job, None)
        self._pipe.send({**answer, "job": job})

    def _speak(
        self, job: int, chunk: ChunkRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> ChunkOutcome:
        if chunk.validation is None:
            return self._attempt(job, chunk, conditionals, cancellation)
        listener = self._listeners.listener(chunk.validation, chunk.language)
        if listener.transcriber is None:
            outcome = self._attempt(job, chunk, conditionals, cancellation)
            return replace(outcome, remarks=(*outcome.remarks, *listener.remarks))

        def begin(candidate: ChunkRequest) -> Callable[[], Sequence[Waveform | Remark]]:
            return partial(list, self._engine.speak(candidate, conditionals, cancellation))

        waveform, outcome = spoken_and_heard(begin, _joined, chunk, chunk.validation, listener, cancellation.check)
        self._pipe.send_piece(job, waveform)
        return outcome

    def _attempt(
        self, job: int, chunk: ChunkRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> ChunkOutcome:
        """Speak the chunk, again with another seed if that fails before anything of it has been sent."""
        for attempt in itertools.count(1):
            seed = chunk.seed if attempt == 1 else derived_seed(chunk.seed, attempt)
            is_last = attempt >= chunk.max_attempts
            sent = False
            remarks: list[str] = []
            try:
                spoken = self._engine.speak(
                    replace(chunk, seed=seed, is_last_attempt=is_last), conditionals, cancellation
                )
                for piece in spoken:
                    cancellation.check()
                    if isinstance(piece, Remark):
                        remarks.append(piece.text)
                    else:
                        self._pipe.send_piece(job, piece)
                        sent = True
                return ChunkOutcome(seed, attempt, remarks=tuple(remarks))
            except GenerationFailed:
                if sent or is_last:
                    raise
        raise AssertionError("unreachable")

    def _convert(
        self, job: int, window: WindowRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> ChunkOutcome:
        for piece in self._engine.convert(window, conditionals, cancellation):
            cancellation.check()
            self._pipe.send_piece(job, piece)
        return ChunkOutcome(window.seed, 1)

    def _conditionals(self, model: str, voice: VoicePrompt, cancellation: Cancellation) -> Conditionals | None:
        if voice.path is None or voice.content_hash is None:
            return None
        prepare = partial(self._prepare, model, voice, Path(voice.path), cancellation)
        return self._cache.get(f"{model}:{voice.content_hash}", prepare, cancellation)

    def _prepare(self, model: str, voice: VoicePrompt, path: Path, cancellation: Cancellation) -> Conditionals:
        """Prepared voices are kept by content, so the bytes listened to must be the ones that the server saw."""
        try:
            with path.open("rb") as recording:
                if hashlib.file_digest(recording, "sha256").hexdigest() != voice.content_hash:
                    raise InvalidAudio(f"the voice {voice.name} was changed while it was being read")
                recording.seek(0)
                return self._engine.prepare(model, voice, recording, cancellation)
        except OSError as error:
            raise InvalidAudio(f"the voice {voice.name} cannot be read any more") from error


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
    head = start[0]
    logging.basicConfig(level=head["log_level"], format="%(message)s", handlers=[PipeLog(pipe)])
    heart = Heart(pipe, os.getppid())
    heart.start()
    listeners = Listeners(ListeningOptions(**head["listening"]))
    try:
        engine, info, notices = registry.load(registry.Wish.from_head(head["wish"]), partial(_report, pipe))
    except ModelUnavailable as error:
        pipe.send({"type": "unavailable", "message": error.message})
        return
    info = replace(info, transcriber=listeners.name, listens_unasked=listeners.has_whisper)
    ready = {"type": "ready", "info": info_to_head(info), "notices": notices, "status": asdict(engine.status())}
    pipe.send(ready)
    heart.engine = engine
    heart.listeners = listeners
    worker = Worker(engine, info, listeners, ConditionalsCache(head["voice_cache_bytes"]), pipe)
    while frame := read_frame_blocking(incoming):
        worker.take(*frame)
    os._exit(0)  # the server is gone; threads deep in a model must not keep the process


def _joined(pieces: Sequence[Waveform]) -> Waveform:
    import numpy as np

    return Waveform(np.concatenate([piece.samples for piece in pieces]), pieces[0].sample_rate)


def _report(pipe: Pipe, progress: LoadProgress) -> None:
    pipe.send({"type": "progress", "progress": asdict(progress)})


class Heart(threading.Thread):
    """Tells the server every second that this process lives, what is loaded and who listens; ends it when orphaned."""

    def __init__(self, pipe: Pipe, parent: int) -> None:
        super().__init__(daemon=True, name="heartbeat")
        self._pipe = pipe
        self._parent = parent
        self.engine: SpeechEngine | None = None
        self.listeners: Listeners | None = None

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while os.getppid() == self._parent:
                status = asdict(self.engine.status()) if self.engine else None
                self._pipe.send({"type": "beat", "status": status, **self._who_listens()})
                time.sleep(HEARTBEAT_S)
        os._exit(0)

    def _who_listens(self) -> Head:
        if self.listeners is None:
            return {}
        return {"transcriber": self.listeners.name, "listens_unasked": self.listeners.has_whisper}


class PipeLog(logging.Handler):
    """Sends log records to the server, so that one process writes the log, in one format."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "root" and record.levelno < logging.WARNING:
            return  # chatter of libraries that have no logger of their own
        message = self.format(record)
        self._pipe.send({"type": "log", "level": record.levelno, "logger": record.name, "message": message})


if __name__ == "__main__":
    main()
