"""The server's side of the engine: one child process owns the model, this class keeps it alive and shares it out.

A crash, a hang, a library that aborts, a GPU that is out of order: all of them end as the loss of one process, which
is replaced while the other requests wait. Nothing here runs the model or blocks the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from config.loader import ConfigurationError
from config.settings import ChatterboxSettings, EngineSettings, ValidationSettings
from engines.base import ChunkOutcome, ChunkRequest, EngineInfo, EngineStatus, LoadProgress, Work
from engines.line import Appointments, Line
from engines.wire import Head, Payload, info_from_head, outcome_from_head, pack, read_frame, work_to_frame
from resilience.errors import (
    GenerationFailed,
    GenerationTimeout,
    InvalidAudio,
    ModelUnavailable,
    SpeechError,
    UnreadableText,
)
from utils.audio.waveform import Waveform

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent
WATCH_INTERVAL_S = 0.25
LONG_SLEEP_S = 2.0
FIRST_RESTART_DELAY_S = 0.1
LAST_RESTART_DELAY_S = 5.0
FAILED_STARTS_TO_GIVE_UP = 3  # in a row; the start is tried on after that, but nobody waits for it
RETRY_AFTER_FAILURE_S = 10

Spoken = Waveform | ChunkOutcome
Event = Spoken | SpeechError
State = Literal["starting", "ready", "restarting", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class EngineParts:
    """The settings that the engine process is started with. `cache_dir` is where it may keep what it can make anew."""

    engine: EngineSettings
    chatterbox: ChatterboxSettings
    validation: ValidationSettings
    whisper_model: str
    cache_dir: Path | None = None

    def to_head(self) -> Head:
        chatterbox = self.chatterbox.model_dump(mode="json")
        voices = str(self.cache_dir / "voices") if self.cache_dir else None
        return {
            "type": "start",
            "wish": {
                "name": self.engine.name,
                "fallback": self.engine.fallback,
                "chatterbox": {**chatterbox, "voice_folder": voices, "hub_timeout_s": self.engine.hub_timeout_s},
            },
            "listening": {
                **self.validation.model_dump(mode="json"),
                "model": self.whisper_model,
                "hub_timeout_s": self.engine.hub_timeout_s,
            },
            "voice_cache_bytes": self.engine.voice_cache_mb * 1_000_000,
            "log_level": logging.getLogger().getEffectiveLevel(),
        }


@dataclass(frozen=True, slots=True)
class Place:
    """A place in line, and the moment of the event loop's clock when all must be spoken."""

    number: int
    deadline: float


@dataclass(slots=True)
class _Request:
    """A request in line: for each chunk the pieces as they come, then its outcome or the error that ended it."""

    chunk_queues: list[asyncio.Queue[Event]]

    def fail(self, error: SpeechError) -> None:
        for queue in self.chunk_queues:
            queue.put_nowait(error)


@dataclass(slots=True)
class _Job:
    """A piece of work that the child process is at."""

    place: int
    index: int
    weight: int
    started_at: float
    cancelled_at: float | None = None


@dataclass(slots=True)
class _Worker:
    process: asyncio.subprocess.Process
    heard_at: float
    moved_at: float  # when its loading was last seen to go on
    jobs: dict[int, _Job] = field(default_factory=dict)
    info: EngineInfo | None = None
    verdict: SpeechError | None = None  # why it was killed, if it was us
    has_said_why: bool = False  # that it cannot be loaded, and what is missing

    def send(self, head: Head, payload: Payload = b"") -> None:
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(pack(head, payload))

    def forgive(self, now: float) -> None:
        """Begin to wait anew, for the heartbeat and for the leaving of cancelled work."""
        self.heard_at = now
        for job in self.jobs.values():
            job.cancelled_at = job.cancelled_at and now

    def kill(self, verdict: SpeechError | None = None) -> None:
        self.verdict = self.verdict or verdict
        if self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                self.process.kill()
            else:
                # Popen's own kill() looks first whether the child has ended, and takes its exit code from asyncio.
                os.kill(self.process.pid, signal.SIGKILL)


class EngineHost:
    """Has work done by the engine process, in a bounded and fair line.

    `reread` gives the settings anew before each start of the process: what a person mends in them while the engine
    cannot be had is seen without a restart of the server.
    """

    def __init__(self, parts: EngineParts, reread: Callable[[], EngineParts] | None = None) -> None:
        self._settings = parts.engine
        self._parts = parts
        self._reread = reread
        self._line = Line(self._settings.max_waiting)
        self._appointments = Appointments(self._settings.max_waiting)
        self._requests: dict[int, _Request] = {}
        self._places = itertools.count(1)
        self._job_ids = itertools.count(1)
        self._worker: _Worker | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._state_changed = asyncio.Event()
        self._seconds_per_character = 0.002
        self.state: State = "starting"
        self.problem: str | None = None
        self.info: EngineInfo | None = None
        self.progress: LoadProgress | None = None
        self.status = EngineStatus(())
        self.notices: list[str] = []
        self.restarts = 0
        self._failed_starts = 0

    async def start(self) -> None:
        """Begin to load the engine, once; returns at once. `wait_until_ready` waits for it."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="engine-supervisor")

    async def close(self) -> None:
        self._set_state("closed")
        for request in self._requests.values():
            request.fail(ModelUnavailable("the server is stopping", retry_after_s=RETRY_AFTER_FAILURE_S))
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    @property
    def trouble(self) -> str:
        """Why it cannot speak now, as a sentence for a person."""
        doing = f" ({self.progress.doing})" if self.progress else ""
        return self.problem or f"the speech engine is {self.state}{doing}"

    @property
    def requests_in_line(self) -> int:
        return len(self._line)

    @property
    def characters_a_second(self) -> float:
        """Of text, that a piece of work has lately been done with."""
        return 1 / self._seconds_per_character

    async def wait_until_ready(self, timeout_s: float | None = None) -> EngineInfo:
        """What the engine can do, once it can. Raises ModelUnavailable if it cannot within `timeout_s`.

        None is what the settings say of the patience of requests.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.start_patience_s if timeout_s is None else timeout_s):
                while self.state in ("starting", "restarting"):
                    await self._state_changed.wait()
        if self.state != "ready" or self.info is None:
            raise ModelUnavailable(self.trouble, retry_after_s=RETRY_AFTER_FAILURE_S)
        return self.info

    def _set_state(self, state: State, problem: str | None = None) -> None:
        self.state, self.problem = state, problem
        self._state_changed.set()
        self._state_changed = asyncio.Event()

    @contextmanager
    def place_in_line(self) -> Iterator[Place]:
        """Hold a place for one request, at once and before any work is done for it.

        Raises ServiceOverloaded if the line is full.
        """
        place = self.renewed(Place(next(self._places), 0.0))
        entered_at = asyncio.get_running_loop().time()
        self._line.enter(place.number, lambda: self._appointments.next_after_s(entered_at))
        self._appointments.taken(place.number, entered_at)
        try:
            yield place
        finally:
            self._line.leave(place.number)
            self._appointments.given_up(place.number, asyncio.get_running_loop().time())

    def renewed(self, place: Place) -> Place:
        """The same place, with as much time as a new one has."""
        return replace(place, deadline=asyncio.get_running_loop().time() + self._settings.request_timeout_s)

    async def stream_work(self, place: Place, work: Sequence[Work]) -> AsyncGenerator[tuple[int, Spoken]]:
        """Yield (index of the piece of work, part of its audio) in the order given, as the parts are ready.

        The last thing yielded for each is its ChunkOutcome. Leaving the iterator early (close it:
        `contextlib.aclosing`) stops the work that was begun. Raises GenerationTimeout, ModelUnavailable if the engine
        was lost meanwhile, GenerationFailed and InvalidAudio as the engine does.
        """
        if self.state in ("failed", "closed"):
            raise ModelUnavailable(self.trouble, retry_after_s=RETRY_AFTER_FAILURE_S)
        request = self._requests[place.number] = _Request([asyncio.Queue() for _ in work])
        self._line.put(place.number, work)
        self._pump()
        try:
            for index, queue in enumerate(request.chunk_queues):
                event: Event | None = None
                while not isinstance(event, ChunkOutcome):
                    event = await _next_event(queue, place.deadline)
                    yield index, event
        except GenerationFailed as error:
            failed = work[index]
            error.detail = {"index": index, **({"text": failed.text} if isinstance(failed, ChunkRequest) else {})}
            raise
        finally:
            self._withdraw(place.number)

    def _withdraw(self, place: int) -> None:
        self._line.withdraw(place)
        del self._requests[place]
        if self._worker is not None:
            for job_id, job in self._worker.jobs.items():
                if job.place == place and job.cancelled_at is None:
                    job.cancelled_at = asyncio.get_running_loop().time()
                    self._worker.send({"type": "cancel", "job": job_id})

    def _pump(self) -> None:
        """Give the engine as many pieces of work as it is at at once."""
        worker = self._worker
        if worker is None or worker.info is None:
            return
        while len(worker.jobs) < worker.info.concurrency and (turn := self._line.next()):
            place, index, work = turn
            job_id = next(self._job_ids)
            now = asyncio.get_running_loop().time()
            worker.jobs[job_id] = _Job(place, index, work.weight, now)
            head, payload = work_to_frame(work)
            worker.send({**head, "job": job_id}, payload)

    # The child process and its messages

    async def _supervise(self) -> None:
        delay_s = FIRST_RESTART_DELAY_S
        while True:
            try:
                became_ready = await self._run_worker()
            except Exception:  # a loop that must survive: no process could be started, or one spoke nonsense
                logger.exception("engine process failed")
                became_ready = False
            delay_s = FIRST_RESTART_DELAY_S if became_ready else min(delay_s * 4, LAST_RESTART_DELAY_S)
            self.restarts += 1
            await asyncio.sleep(delay_s)

    async def _run_worker(self) -> bool:
        """Start the child and serve its messages until it ends; true if it had become ready to speak."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "engines.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=PROJECT,
            env=_environment(),
        )
        assert process.stdout is not None
        now = asyncio.get_running_loop().time()
        worker = self._worker = _Worker(process, heard_at=now, moved_at=now)
        worker.send((await self._parts_for_start()).to_head())
        logger.info("engine starting pid=%d", process.pid)
        watch = asyncio.create_task(self._watch(worker), name="engine-watch")
        try:
            while frame := await read_frame(process.stdout):
                worker.heard_at = asyncio.get_running_loop().time()
                self._on_frame(worker, *frame)
        finally:
            watch.cancel()
            worker.kill()
            await process.wait()
            self._lose(worker)
        return worker.info is not None

    async def _parts_for_start(self) -> EngineParts:
        """The settings as they stand now, if they can be read; else the last ones that could."""
        if self._reread and self.restarts:
            try:
                self._parts = await asyncio.to_thread(self._reread)
            except ConfigurationError as error:
                logger.warning("settings not read anew reason=%s", error)
        return self._parts

    async def _watch(self, worker: _Worker) -> None:
        """Kill a child that no longer answers, or that does not leave work nobody waits for."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while True:
            asleep_at = now
            await asyncio.sleep(WATCH_INTERVAL_S)
            now = loop.time()
            if now - asleep_at > LONG_SLEEP_S:  # this process was stopped itself; the child had no chance to be heard
                worker.forgive(now)
            if worker.info is None:
                if now - worker.moved_at > self._settings.start_timeout_s:
                    worker.kill(
                        ModelUnavailable("the speech engine did not start in time", retry_after_s=RETRY_AFTER_FAILURE_S)
                    )
            elif now - worker.heard_at > self._settings.heartbeat_timeout_s:
                worker.kill(GenerationTimeout("the speech engine stopped answering and is being restarted"))
            elif self.status.stuck_s > self._settings.step_timeout_s:
                worker.kill(GenerationTimeout("the speech engine's models hang and are being restarted"))
            elif any(
                now - job.cancelled_at > self._settings.cancel_grace_s
                for job in worker.jobs.values()
                if job.cancelled_at
            ):
                worker.kill(GenerationTimeout("the speech engine hung on other work and is being restarted"))

    def _on_frame(self, worker: _Worker, head: Head, payload: bytes) -> None:
        match head["type"]:
            case "ready":
                worker.info = self.info = info_from_head(head["info"])
                self.notices, self.progress = head["notices"], None
                self.status = EngineStatus(**head["status"])
                self._failed_starts = 0
                self._set_state("ready")
                model = self.info.models[0].name
                logger.info("engine ready name=%s model=%s device=%s", self.info.name, model, self.info.device)
                self._pump()
            case "beat":
                if head["status"]:
                    self.status = EngineStatus(**head["status"])
                if worker.info is not None and "transcriber" in head:  # weights come, and are damaged, at any time
                    now = {name: head[name] for name in ("transcriber", "listens_unasked")}
                    worker.info = self.info = replace(worker.info, **now)
            case "progress":
                worker.moved_at = worker.heard_at
                self._tell_progress(LoadProgress(**head["progress"]))
            case "unavailable":
                worker.has_said_why = True
                self._refuse_all(head["message"])
            case "piece":
                self._deliver(worker, head["job"], Waveform.of_bytes(payload, head["sample_rate"]))
            case "done":
                self.status = EngineStatus(**head["status"])
                self._deliver(worker, head["job"], outcome_from_head(head["outcome"]))
                self._finish(worker, head["job"])
            case "failed":
                self._deliver(worker, head["job"], _error_of(head["code"], head["message"]))
                self._finish(worker, head["job"])
            case "cancelled":
                self._finish(worker, head["job"])
            case "log":
                logging.getLogger(head["logger"]).log(head["level"], "%s", head["message"])

    def _tell_progress(self, progress: LoadProgress) -> None:
        """Keep it for `/health`. The log gets a line for each thing that is done, and for each tenth of its bytes."""
        before, self.progress = self.progress, progress
        if before is None or (before.doing, before.tenths) != (progress.doing, progress.tenths):
            done, total = progress.bytes_done // 1_000_000, progress.bytes_total // 1_000_000
            logger.info("engine loading doing=%r mb=%d of=%d eta_s=%s", progress.doing, done, total, progress.eta_s)

    def _deliver(self, worker: _Worker, job_id: int, event: Event) -> None:
        if request := self._waiting_for(worker.jobs[job_id]):
            request.chunk_queues[worker.jobs[job_id].index].put_nowait(event)

    def _waiting_for(self, job: _Job) -> _Request | None:
        """Whoever wants to have it: nobody once it was cancelled, though its place may have other work meanwhile."""
        return None if job.cancelled_at is not None else self._requests.get(job.place)

    def _finish(self, worker: _Worker, job_id: int) -> None:
        job = worker.jobs.pop(job_id)
        if job.cancelled_at is None and job.weight:
            took_s = asyncio.get_running_loop().time() - job.started_at
            self._seconds_per_character += 0.2 * (took_s / job.weight - self._seconds_per_character)
        self._pump()

    def _lose(self, worker: _Worker) -> None:
        """The child is gone: its work fails, what waits in line waits on."""
        self._worker, self.progress, self.status = None, None, EngineStatus(())
        if self.state == "ready":
            self._set_state("restarting")
            logger.error("engine lost exit=%s chunks=%d", worker.process.returncode, len(worker.jobs))
        error = worker.verdict or ModelUnavailable("the speech engine stopped while it spoke and is being restarted")
        for job in worker.jobs.values():
            if request := self._waiting_for(job):
                request.chunk_queues[job.index].put_nowait(error)
        if worker.info is None and self.state != "closed" and not worker.has_said_why:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS_TO_GIVE_UP:
                said = worker.verdict.message if worker.verdict else f"it ended with {worker.process.returncode}"
                self._refuse_all(f"the speech engine could not be started: {said}")

    def _refuse_all(self, problem: str) -> None:
        """The engine cannot be loaded: nobody should wait for it. It is tried again, in case the cause is mended."""
        if self.problem != problem:
            logger.error("engine unavailable reason=%s", problem)
        self._set_state("failed", problem)
        for request in self._requests.values():
            request.fail(ModelUnavailable(problem, retry_after_s=RETRY_AFTER_FAILURE_S))


def _environment() -> dict[str, str]:
    """The child's: as ours, but its bytecode is kept, beside the installed packages where it may not lie among them.

    Chatterbox and what it needs are imported in 7 s, and in 28 where every start has to compile them anew. oneDNN keeps
    the code for 1,024 shapes, hundreds of megabytes in time, though an utterance's length seldom comes again.
    """
    environment = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", **os.environ}
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment.setdefault("PYTHONPYCACHEPREFIX", str(Path(sys.prefix) / "bytecode"))
    return environment


async def _next_event(queue: asyncio.Queue[Event], deadline: float) -> Spoken:
    try:
        async with asyncio.timeout_at(deadline):
            event = await queue.get()
    except TimeoutError:
        raise GenerationTimeout("the speech engine did not finish this request in time") from None
    if isinstance(event, SpeechError):
        raise event
    return event


def _error_of(code: str, message: str) -> SpeechError:
    kinds = {kind.code: kind for kind in (GenerationFailed, InvalidAudio, ModelUnavailable, UnreadableText)}
    return kinds.get(code, GenerationFailed)(message)
