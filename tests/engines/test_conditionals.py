from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from engines.base import Cancellation, Cancelled
from engines.conditionals import ConditionalsCache
from resilience.errors import InvalidAudio


@dataclass(frozen=True)
class Voice:
    size_bytes: int = 10


def never():
    raise AssertionError("prepared again")


def test_a_voice_is_prepared_once():
    cache, voice = ConditionalsCache(100), Voice()

    assert cache.get("a", lambda: voice, Cancellation()) is voice
    assert cache.get("a", never, Cancellation()) is voice


def test_the_least_recently_used_voice_makes_room():
    cache = ConditionalsCache(20)
    cache.get("a", Voice, Cancellation())
    cache.get("b", Voice, Cancellation())
    cache.get("a", never, Cancellation())
    cache.get("c", Voice, Cancellation())

    cache.get("a", never, Cancellation())
    cache.get("c", never, Cancellation())
    with pytest.raises(AssertionError, match="prepared again"):
        cache.get("b", never, Cancellation())
    assert cache.size_bytes == 20


def test_a_voice_larger_than_the_cache_is_used_and_not_kept():
    cache = ConditionalsCache(20)
    cache.get("small", Voice, Cancellation())

    assert cache.get("large", lambda: Voice(21), Cancellation()).size_bytes == 21
    assert cache.size_bytes == 10
    cache.get("small", never, Cancellation())


class Waiting(Cancellation):
    """Tells when one has looked at it a second time: then it waits for another's preparation."""

    def __init__(self):
        super().__init__()
        self.looks = 0
        self.waits = threading.Event()

    def check(self):
        self.looks += 1
        if self.looks == 2:
            self.waits.set()
        super().check()


class Crowd:
    """Threads that ask for one voice while the first of them prepares it, until all others wait for it."""

    def __init__(self, cache, size, outcomes):
        self.cache, self.size, self.outcomes = cache, size, list(outcomes)
        self.others = [Waiting() for _ in range(size - 1)]
        self.begun = threading.Event()
        self.calls = 0

    def prepare(self):
        self.calls += 1
        self.begun.set()
        assert all(other.waits.wait(5) for other in self.others), "the others do not wait"
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def ask(self, cancellation):
        try:
            return self.cache.get("voice", self.prepare, cancellation)
        except (InvalidAudio, Cancelled) as error:
            return error

    def answers(self):
        """What the first gets, and what the others get."""
        with ThreadPoolExecutor(self.size) as pool:
            first = pool.submit(self.ask, Cancellation())
            assert self.begun.wait(5)
            others = [pool.submit(self.ask, other) for other in self.others]
            return first.result(5), [other.result(5) for other in others]


def test_eight_threads_that_ask_at_once_prepare_a_voice_once():
    voice = Voice()
    crowd = Crowd(ConditionalsCache(100), 8, [voice])

    first, others = crowd.answers()

    assert crowd.calls == 1
    assert all(answer is voice for answer in (first, *others))


def test_a_failure_reaches_all_who_wait_and_is_not_kept():
    cache, failure = ConditionalsCache(100), InvalidAudio("no voice")
    crowd = Crowd(cache, 8, [failure])

    first, others = crowd.answers()

    assert crowd.calls == 1
    assert all(answer is failure for answer in (first, *others))
    assert cache.get("voice", Voice, Cancellation()) == Voice()


def test_if_the_one_who_prepares_is_cancelled_one_of_the_others_prepares_anew():
    voice = Voice()
    crowd = Crowd(ConditionalsCache(100), 8, [Cancelled(), voice])

    first, others = crowd.answers()

    assert isinstance(first, Cancelled)
    assert crowd.calls == 2
    assert all(answer is voice for answer in others)


def test_one_who_waits_leaves_when_cancelled_while_the_others_wait_on():
    cache, voice, waiting, go_on = ConditionalsCache(100), Voice(), Waiting(), threading.Event()
    begun = threading.Event()

    def prepare():
        begun.set()
        assert go_on.wait(5)
        return voice

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "voice", prepare, Cancellation())
        assert begun.wait(5)
        second = pool.submit(cache.get, "voice", never, waiting)
        assert waiting.waits.wait(5)
        waiting.cancel()

        assert isinstance(second.exception(1), Cancelled)
        assert not first.done()
        go_on.set()
        assert first.result(5) is voice


def test_while_one_voice_is_prepared_another_can_be_had():
    cache = ConditionalsCache(100)

    def slow():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(cache.get, "quick", Voice, Cancellation()).result(5)

    assert cache.get("slow", slow, Cancellation()) == Voice()
