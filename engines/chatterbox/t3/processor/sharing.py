"""How workers share what there is to do, and wait for one another.

Every worker, a thread, runs all of the compiled code, each on its share: a piece of the outputs, a row, or the head of
a row. `me` is (worker, workers). Who is done with its share takes what others have left of theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.chatterbox.t3.processor.compiled import compiled, within
from engines.chatterbox.t3.processor.instructions import arrive, look, rest, step_aside

DESK = 64  # bytes from one worker's tickets to the next one's, so that no two share a line of the cache
PATIENCE = 2000  # looks until a thread that waits lets others have its core


@within
def address(array: Any) -> Any:
    return np.int64(array.ctypes.data)


@within
def begin_of(count: int, worker: int, workers: int) -> Any:
    """The first of a worker's share of so many pieces; that of the worker behind the last is where all end."""
    return worker * count // workers


@within
def ticket(desks: int, owner: int) -> Any:
    """How many pieces of the owner's share were taken before this one."""
    return arrive(desks + DESK * owner)


@compiled
def meet(me: Any, sync: Any) -> None:
    """Wait until all are here. `sync` (16,) int64 is zero at first."""
    _, workers = me
    if workers == 1:
        return
    counter, round_ = address(sync), address(sync) + 64
    current = look(round_)
    if arrive(counter) == workers - 1:
        sync[0] = 0
        arrive(round_)
        return
    looks = 0
    while look(round_) == current:
        looks += 1
        if looks < PATIENCE:
            rest()
        else:
            step_aside()
