"""The script of a dictation: who writes and who speaks are not in step."""

from __future__ import annotations

import asyncio

import pytest

from dictation import Script
from resilience.errors import InvalidRequest, TextTooLong
from utils.text.split import Pause


def script(longest: int = 1000) -> Script:
    return Script("en", longest)


async def utterance(written: Script) -> list[str]:
    return [passage.text async for passage in written.passages()]


def test_a_passage_has_all_the_sentences_that_are_there() -> None:
    async def test() -> None:
        written = script()
        await written.add("One is here. Two is here.\n\nThree is here. And four")

        passages = written.passages()
        first = await anext(passages)
        await written.add(" is. Five is not yet")
        second = await anext(passages)
        written.flush()

        assert (first.text, first.pause) == ("One is here. Two is here.\n\nThree is here. ", Pause.SENTENCE)
        assert second.text == "And four is. "
        assert [passage.text async for passage in passages] == ["Five is not yet"]

    asyncio.run(test())


def test_a_speaker_who_is_ahead_waits_for_the_next_sentence() -> None:
    async def test() -> None:
        written = script()
        speaking = asyncio.create_task(utterance(written))
        await asyncio.sleep(0)
        assert written.is_waited_for

        await written.add("One is here. Two")
        written.flush()

        assert "".join(await speaking) == "One is here. Two"
        assert not written.is_waited_for

    asyncio.run(test())


def test_each_flush_ends_an_utterance_and_the_end_is_the_last() -> None:
    async def test() -> None:
        written = script()
        await written.add("One")
        written.flush()
        await written.add("Two")
        written.end()

        heard = []
        while await written.has_more():
            heard.append(await utterance(written))

        assert heard == [["One"], ["Two"]]
        assert not await written.has_more()

    asyncio.run(test())


def test_what_is_dropped_is_not_spoken() -> None:
    async def test() -> None:
        written = script()
        await written.add("One is here. Two is here. Three")
        written.drop()
        await written.add("Four")
        written.end()

        assert await utterance(written) == ["Four"]

    asyncio.run(test())


def flushed_without_end(written: Script) -> None:
    for _ in range(100):
        written.flush()


def test_what_cannot_wait_or_be_spoken_is_refused() -> None:
    async def test() -> None:
        with pytest.raises(TextTooLong, match="21 characters wait"):
            await script(longest=20).add("x" * 21)
        with pytest.raises(InvalidRequest):
            await script().add("a\0b")
        with pytest.raises(TextTooLong):
            flushed_without_end(script(longest=20))

    asyncio.run(test())
