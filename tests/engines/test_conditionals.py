from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from engines.conditionals import ConditionalsCache
from resilience.errors import InvalidAudio


@dataclass(frozen=True)
class Voice:
    size_bytes: int = 10


def never():
    raise AssertionError("prepared again")


def test_a_voice_is_prepared_once():
    cache, voice = ConditionalsCache(100), Voice()

    assert cache.get("a", lambda: voice) is voice
    assert cache.get("a", never) is voice


def test_the_least_recently_used_voice_makes_room():
    cache = ConditionalsCache(20)
    cache.get("a", Voice)
    cache.get("b", Voice)
    cache.get("a", never)
    cache.get("c", Voice)

    cache.get("a", never)
    cache.get("c", never)
    with pytest.raises(AssertionError, match="prepared again"):
        cache.get("b", never)
    assert cache.size_bytes == 20


def test_a_voice_larger_than_the_cache_is_used_and_not_kept():
    cache = ConditionalsCache(20)
    cache.get("small", Voice)

    assert cache.get("large", lambda: Voice(21)).size_bytes == 21
    assert cache.size_bytes == 10
    cache.get("small", never)


def ask_together(cache, threads, prepare):
    """What each of several threads gets that ask for one key while the first of them prepares it."""
    ready = threading.Barrier(threads)

    def ask(_):
        ready.wait(5)
        try:
            return cache.get("voice", prepare)
        except InvalidAudio as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(threads)))


class Preparation:
    """Takes until all others wait for it, so that no run of the test is lucky."""

    def __init__(self, cache, others, outcome):
        self.cache, self.others, self.outcome = cache, others, outcome
        self.calls = 0

    def __call__(self):
        self.calls += 1
        waiting = self.cache._under_way["voice"]._condition._waiters
        deadline = time.monotonic() + 5
        while len(waiting) < self.others:
            assert time.monotonic() < deadline, "the others do not wait"
            threading.Event().wait(0.001)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_eight_threads_that_ask_at_once_prepare_a_voice_once():
    cache = ConditionalsCache(100)
    prepare = Preparation(cache, 7, Voice())

    answers = ask_together(cache, 8, prepare)

    assert prepare.calls == 1
    assert all(answer is prepare.outcome for answer in answers)


def test_a_failure_reaches_all_who_wait_and_is_not_kept():
    cache = ConditionalsCache(100)
    prepare = Preparation(cache, 7, InvalidAudio("no voice"))

    answers = ask_together(cache, 8, prepare)

    assert prepare.calls == 1
    assert all(answer is prepare.outcome for answer in answers)
    assert cache.get("voice", Voice) == Voice()


def test_while_one_voice_is_prepared_another_can_be_had():
    cache = ConditionalsCache(100)

    def slow():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(cache.get, "quick", Voice).result(5)

    assert cache.get("slow", slow) == Voice()
