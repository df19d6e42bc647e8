"""The engine process from the server's side: real processes, really killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest

from config.settings import ChatterboxSettings, EngineSettings, ValidationSettings
from engines.base import ChunkRequest, Sampling, VoicePrompt
from engines.host import EngineHost, EngineParts
from resilience.errors import GenerationTimeout, ModelUnavailable, ServiceOverloaded
from utils.audio.waveform import Waveform

HOURS_OF_TEXT = "and so it goes on and on without an end in sight " * 4000

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stops and kills processes by POSIX signals")


def host_of(**settings: Any) -> EngineHost:
    engine = EngineSettings.model_validate({"name": "embedded", **settings})
    return EngineHost(EngineParts(engine, ChatterboxSettings(), ValidationSettings(), "medium"))


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[EngineHost]:
    host = host_of(**settings)
    await host.start()
    try:
        await host.wait_until_ready()
        yield host
    finally:
        await host.close()


def chunk_of(host: EngineHost, text: str, seed: int = 1) -> ChunkRequest:
    assert host.info is not None
    voice = VoicePrompt(host.info.models[0].voices[0])
    return ChunkRequest(text, "en", voice, Sampling(0.5, 0.75, 1.0), seed)


async def say(host: EngineHost, *texts: str, seed: int = 1) -> list[Waveform]:
    """The chunks' waveforms."""
    assert host.info is not None
    chunks = [chunk_of(host, text, seed) for text in texts]
    pieces: list[list[np.ndarray[Any, Any]]] = [[] for _ in chunks]
    with host.place_in_line() as place:
        async with aclosing(host.stream_work(place, chunks)) as stream:
            async for index, event in stream:
                if isinstance(event, Waveform):
                    pieces[index].append(event.samples)
    return [Waveform(np.concatenate(samples), host.info.models[0].sample_rate) for samples in pieces]


async def begun(host: EngineHost, text: str) -> asyncio.Task[list[Waveform]]:
    """A request that the engine is working on."""
    task = asyncio.create_task(say(host, text))
    while not (host._worker and host._worker.jobs):  # noqa: ASYNC110 - the host announces this to nobody
        await asyncio.sleep(0)
    return task


def pid_of(host: EngineHost) -> int:
    assert host._worker is not None
    return host._worker.process.pid


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_chunks_come_back_in_the_order_of_the_text() -> None:
    async def test() -> None:
        async with running() as host:
            waveforms = await say(host, "One.", "A sentence that takes far longer to say than the others do.", "Three.")

        assert waveforms[1].duration_s > 2 * max(waveforms[0].duration_s, waveforms[2].duration_s)

    run(test())


def test_a_request_in_a_crowd_gets_the_samples_it_gets_alone() -> None:
    async def test() -> None:
        async with running() as host:
            alone = [await say(host, f"Request number {n} is here.", "And it ends.", seed=n + 1) for n in range(12)]
            crowd = await asyncio.gather(
                *(say(host, f"Request number {n} is here.", "And it ends.", seed=n + 1) for n in range(12))
            )

        for one, same in zip(alone, crowd, strict=True):
            for left, right in zip(one, same, strict=True):
                np.testing.assert_array_equal(left.samples, right.samples)

    run(test())


def test_a_killed_engine_fails_its_request_and_speaks_the_next() -> None:
    async def test() -> None:
        async with running() as host:
            doomed = await begun(host, HOURS_OF_TEXT)
            os.kill(pid_of(host), signal.SIGKILL)
            with pytest.raises(ModelUnavailable):
                await doomed

            assert await say(host, "I am back.")

    run(test())


def test_a_stopped_engine_is_noticed_by_its_silence_and_replaced() -> None:
    async def test() -> None:
        async with running(heartbeat_timeout_s=2) as host:
            doomed = await begun(host, HOURS_OF_TEXT)
            stopped = pid_of(host)
            os.kill(stopped, signal.SIGSTOP)
            with pytest.raises(GenerationTimeout):
                await doomed

            assert await say(host, "I am back.")
            assert pid_of(host) != stopped

    run(test())


def test_an_engine_killed_while_it_loads_is_started_again() -> None:
    async def test() -> None:
        host = host_of()
        await host.start()
        try:
            while host._worker is None:  # noqa: ASYNC110 - the host announces this to nobody
                await asyncio.sleep(0)
            os.kill(pid_of(host), signal.SIGKILL)

            await host.wait_until_ready()
            assert await say(host, "I am here after all.")
        finally:
            await host.close()

    run(test())


def test_requests_that_only_wait_in_line_survive_the_loss_of_the_engine() -> None:
    async def test() -> None:
        async with running() as host:
            assert host.info is not None
            doomed = [await begun(host, HOURS_OF_TEXT)]
            while host._worker is None or len(host._worker.jobs) < host.info.concurrency:
                doomed.append(asyncio.create_task(say(host, HOURS_OF_TEXT)))
                await asyncio.sleep(0)
            waiting = asyncio.create_task(say(host, "I can wait."))
            await asyncio.sleep(0)
            os.kill(pid_of(host), signal.SIGKILL)

            assert await waiting
            failures = await asyncio.gather(*doomed, return_exceptions=True)
            assert all(isinstance(failure, ModelUnavailable) for failure in failures)

    run(test())


def test_a_request_that_nobody_waits_for_any_more_frees_the_engine() -> None:
    async def test() -> None:
        async with running() as host:
            task = await begun(host, HOURS_OF_TEXT)
            before = pid_of(host)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            assert await say(host, "Now it is my turn.")
            assert host.requests_in_line == 0
            assert pid_of(host) == before

    run(test())


def test_a_request_that_takes_too_long_ends_with_a_timeout() -> None:
    async def test() -> None:
        async with running(request_timeout_s=0.3) as host:
            with pytest.raises(GenerationTimeout):
                await say(host, HOURS_OF_TEXT)

            assert await say(host, "Hi.")

    run(test())


def test_a_full_line_is_refused_at_once_with_a_time_to_come_back() -> None:
    async def test() -> None:
        async with running(max_waiting=2) as host:
            tasks = [await begun(host, HOURS_OF_TEXT), asyncio.create_task(say(host, HOURS_OF_TEXT))]
            await asyncio.sleep(0)
            with pytest.raises(ServiceOverloaded) as refusal:
                await say(host, "Me too.")

            assert 1 <= refusal.value.retry_after_s <= 60
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await say(host, "Me now.")

    run(test())


def test_an_engine_that_cannot_be_had_is_said_so_and_waited_for_by_nobody() -> None:
    async def test() -> None:
        host = host_of(name="chatterbox", hub_timeout_s=0.5)
        await host.start()
        try:
            with pytest.raises(ModelUnavailable, match="Chatterbox"):
                await host.wait_until_ready()
            assert host.state == "failed"
        finally:
            await host.close()

    run(test())


def test_the_engine_ends_with_its_server() -> None:
    async def test() -> None:
        async with running() as host:
            pid = pid_of(host)
            await begun(host, HOURS_OF_TEXT)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(test())


def test_a_place_that_cancelled_its_work_hears_nothing_more_of_it() -> None:
    async def test() -> None:
        async with running() as host:
            (alone,) = await say(host, "Yes.")
            for _ in range(20):
                with host.place_in_line() as place:
                    async with aclosing(host.stream_work(place, [chunk_of(host, HOURS_OF_TEXT)])) as stream:
                        await anext(stream)
                    async with aclosing(host.stream_work(place, [chunk_of(host, "Yes.")])) as stream:
                        spoken = [event.samples async for _, event in stream if isinstance(event, Waveform)]

                np.testing.assert_array_equal(np.concatenate(spoken), alone.samples)

    run(test())
