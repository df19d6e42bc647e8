"""The line in front of the engine: who is spoken next. Pure bookkeeping, no clock and no process.

Chunks are what is scheduled, and each request in line gets one chunk in turn, so that a long text cannot keep a
short one waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engines.base import Work
from resilience.errors import ServiceOverloaded


class Line:
    """Requests with chunks to be spoken: bounded in requests, fair between them."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._waiting: dict[int, deque[tuple[int, Work]]] = {}
        self._members: set[int] = set()

    def __len__(self) -> int:
        """Requests that have a place, whether their chunks wait, are being spoken, or are yet to come."""
        return len(self._members)

    @property
    def waiting_weight(self) -> int:
        return sum(work.weight for queue in self._waiting.values() for _, work in queue)

    def enter(self, request_id: int, retry_after_s: int) -> None:
        """Take a place. Raises ServiceOverloaded, naming `retry_after_s`, if the line is full."""
        if len(self._members) >= self._max_requests:
            raise ServiceOverloaded(
                f"{len(self._members)} requests are in line already; please try again later",
                retry_after_s=retry_after_s,
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
