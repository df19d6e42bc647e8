"""The line in front of the engine: who is spoken next. Pure bookkeeping, no clock and no process.

Chunks are what is scheduled, and each request in line gets one chunk in turn, so that a long text cannot keep a
short one waiting.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence

from engines.base import Work
from resilience.errors import ServiceOverloaded

FIRST_GUESS_S = 2.0  # that a request holds its place
LEARNING_UP, LEARNING_DOWN = 0.7, 0.1  # how much the latest one counts: who comes too early is refused again
CAUTION = 0.75  # of the places that become free; the rest is for those who come unasked
MOST_AFTER_S = 60  # what clients heed: OpenAI's give up, or guess, beyond


class Line:
    """Requests with chunks to be spoken: bounded in requests, fair between them."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._waiting: dict[int, deque[tuple[int, Work]]] = {}
        self._members: set[int] = set()

    def __len__(self) -> int:
        """Requests that have a place, whether their chunks wait, are being spoken, or are yet to come."""
        return len(self._members)

    def enter(self, request_id: int, retry_after_s: Callable[[], int]) -> None:
        """Take a place. Raises ServiceOverloaded, naming what `retry_after_s` gives, if the line is full."""
        if len(self._members) >= self._max_requests:
            raise ServiceOverloaded(
                f"{len(self._members)} requests are in line already; please try again later",
                retry_after_s=retry_after_s(),
            )
        self._members.add(request_id)

    def put(self, request_id: int, chunks: Sequence[Work]) -> None:
        """Chunks to be spoken for a request that has a place."""
        self._waiting[request_id] = deque(enumerate(chunks))

    def withdraw(self, request_id: int) -> None:
        """Whatever of a request was not yet taken is not spoken."""
        self._waiting.pop(request_id, None)

    def leave(self, request_id: int) -> None:
        """Give the place up."""
        self.withdraw(request_id)
        self._members.discard(request_id)

    def next(self) -> tuple[int, int, Work] | None:
        """The next chunk to speak as (request, index of the chunk, chunk), or None if nothing waits."""
        for request_id, chunks in self._waiting.items():
            index, chunk = chunks.popleft()
            del self._waiting[request_id]
            if chunks:
                self._waiting[request_id] = chunks  # to the back of the line
            return request_id, index, chunk
        return None


class Appointments:
    """When those who were refused may come back: no more of them at a time than places become free by then.

    Told the same second, they would all come together, fill the places and be refused again, and clients try but a
    few times. How long a place is held is learnt; times are in seconds of one clock.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held_s = FIRST_GUESS_S
        self._since: dict[int, float] = {}  # when each place that is held was taken
        self._promised: Counter[int] = Counter()  # how many come back at which second

    def taken(self, request_id: int, now: float) -> None:
        """A request has a place."""
        self._since[request_id] = now

    def given_up(self, request_id: int, now: float) -> None:
        held_s = now - self._since.pop(request_id)
        self._held_s += (LEARNING_UP if held_s > self._held_s else LEARNING_DOWN) * (held_s - self._held_s)

    def next_after_s(self, now: float) -> int:
        """Whole seconds from now until the next one, from 1 to 60."""
        self._promised = Counter({second: count for second, count in self._promised.items() if second > now})
        # Texts longer than those before are noticed by how long they take already: as long again, at a guess.
        held_s = max(self._held_s, 2 * (now - min(self._since.values(), default=now)))
        a_second = min(self._places / held_s, self._places) * CAUTION  # more than fit in cannot come at once
        after_s = math.ceil(held_s + self._promised.total() / a_second)
        after_s = min(max(after_s, 1), MOST_AFTER_S)
        self._promised[math.ceil(now) + after_s] += 1
        return after_s
