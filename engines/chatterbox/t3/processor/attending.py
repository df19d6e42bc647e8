"""Attention: tokens' keys and values are kept, and what their queries take from those of their row."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.chatterbox.t3.processor.compiled import compiled
from engines.chatterbox.t3.processor.exponential import exponential
from engines.chatterbox.t3.processor.instructions import fetch
from engines.chatterbox.t3.processor.products import DOTS, copy_as, dots, weighted_16, weighted_64
from engines.chatterbox.t3.processor.sharing import address, begin_of, ticket
from engines.chatterbox.t3.processor.vectors import AHEAD, CELL

ONE = np.float32(1)


@compiled
def keep(
    layer: int,
    row: int,
    head: int,
    place: int,
    token: int,
    wide: Any,
    turns: bool,
    cos: Any,
    sin: Any,
    keys: Any,
    values: Any,
) -> None:
    """Turn a token's query and key of one head to its place, and store key and value there in its row."""
    heads, size = keys.shape[2], keys.shape[4]
    half = size // 2
    query, key, value = head * size, (heads + head) * size, (2 * heads + head) * size
    if turns:
        for start in (query, key):
            for channel in range(half):
                first, second = wide[token, start + channel], wide[token, start + half + channel]
                wide[token, start + channel] = first * cos[place, channel] + second * sin[place, channel]
                wide[token, start + half + channel] = (
                    second * cos[place, half + channel] + first * sin[place, half + channel]
                )
    start = where(keys, layer, row, head) + place * size * keys.itemsize
    own = address(wide) + token * wide.shape[1] * 4
    copy_as(keys, own + 4 * key, size, address(keys) + start)
    copy_as(values, own + 4 * value, size, address(values) + start)


@compiled
def keep_all(
    me: Any,
    layer: int,
    rows: Any,
    places: Any,
    wide: Any,
    turns: bool,
    cos: Any,
    sin: Any,
    keys: Any,
    values: Any,
) -> None:
    """`keep` for this worker's part of all tokens and heads."""
    worker, workers = me
    heads = keys.shape[2]
    pairs = len(rows) * heads
    for pair in range(begin_of(pairs, worker, workers), begin_of(pairs, worker + 1, workers)):
        token, head = pair // heads, pair % heads
        keep(layer, rows[token], head, places[token], token, wide, turns, cos, sin, keys, values)


@compiled
def where(store: Any, layer: int, row: int, head: int) -> Any:
    """How far into keys or values those of a head of a row begin, in bytes."""
    _, rows, heads, room, size = store.shape
    return ((layer * rows + row) * heads + head) * room * size * store.itemsize


@compiled
def attend(
    layer: int,
    row: int,
    head: int,
    known: int,
    token: int,
    wide: Any,
    keys: Any,
    values: Any,
    afterwards: int,
    scores: Any,
    ready: Any,
) -> Any:
    """What a token's head takes from the first `known` positions of its row, to `ready`.

    `scores` (room,) is this worker's: the attention's weights afterwards, but for a factor, which is returned.
    `afterwards` is the address of the keys that this worker wants next.
    """
    size, start = keys.shape[4], where(keys, layer, row, head)
    step = size * keys.itemsize
    query, target = address(wide) + (token * wide.shape[1] + head * size) * 4, address(scores)
    first, vectors = address(keys) + start, address(values) + start
    end = first + known * step
    for position in range(0, known, DOTS):  # beyond what is known there is room, and something finite
        wanted = first + position * step + AHEAD
        if wanted >= end:
            wanted += vectors - end
        for line in range(0, DOTS * step, CELL):
            fetch(wanted + line)
        dots(keys, query, first + position * step, step, target + position * 4)
    scale = ONE / np.sqrt(np.float32(size))
    greatest = scores[0]
    for position in range(known):
        greatest = max(greatest, scores[position])
    total = np.float32(0)
    for position in range(known):
        weight = exponential((scores[position] - greatest) * scale)
        scores[position] = weight
        total += weight
    result = address(ready) + (token * ready.shape[1] + head * size) * 4
    if size % 64 == 0:
        for channel in range(0, size, 64):
            own = vectors + channel * values.itemsize
            weighted_64(values, target, known, own, step, afterwards, result + channel * 4)
    else:
        for channel in range(0, size, 16):
            own = vectors + channel * values.itemsize
            weighted_16(values, target, known, own, step, afterwards, result + channel * 4)
    share = ONE / total
    for channel in range(size):
        ready[token, head * size + channel] *= share
    return share


@compiled
def attend_all(
    me: Any,
    desks: int,
    layer: int,
    rows: Any,
    places: Any,
    wide: Any,
    keys: Any,
    values: Any,
    scores: Any,
    ready: Any,
    watches: Any,
    watched_as: Any,
    watched: Any,
) -> None:
    """`attend` for one token and head after the other, shared as `multiply` does; what is watched is left behind."""
    worker, workers = me
    heads, longest = keys.shape[2], 0
    for place in places:
        longest = max(longest, place + 1)
    pairs = len(rows) * heads
    for other in range(worker, worker + workers):
        owner = other % workers
        begin, end = begin_of(pairs, owner, workers), begin_of(pairs, owner + 1, workers)
        pair = begin + ticket(desks, owner)
        while pair < end:
            token, head = pair // heads, pair % heads
            following = min(pair + 1, end - 1)
            next_keys = address(keys) + where(keys, layer, rows[following // heads], following % heads)
            known = places[token] + 1
            share = attend(layer, rows[token], head, known, token, wide, keys, values, next_keys, scores, ready)
            if watches[layer, head] >= 0 and watched_as[token] >= 0:
                seen = watched[watches[layer, head], watched_as[token]]
                for position in range(longest):
                    seen[position] = scores[position] * share if position < known else np.float32(0)
            pair = begin + ticket(desks, owner)
