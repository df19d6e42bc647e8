"""The decoder's pass on a processor, compiled by numba: every worker runs all of it, each on its share.

Where the next part reads what others wrote, all of them meet.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engines.chatterbox.t3.processor.attending import attend_all, keep_all
from engines.chatterbox.t3.processor.compiled import compiled
from engines.chatterbox.t3.processor.exponential import exponential
from engines.chatterbox.t3.processor.instructions import is_whole, number_at
from engines.chatterbox.t3.processor.multiplying import COUNT, FACTS, make_whole, multiply, upcoming
from engines.chatterbox.t3.processor.sharing import DESK, address, meet

# What is known of a layer: four matrices, and the weights and biases of two norms.
QKV, OUT, UP, DOWN, NORM_ATTENTION, NORM_MLP = 0, FACTS, 2 * FACTS, 3 * FACTS, 4 * FACTS, 4 * FACTS + 2
LAYER_FACTS = 4 * FACTS + 4
# Of what follows the layers: the norm and the head.
NORM, HEAD = 0, 2
LAST_FACTS = 2 + FACTS
SHARED = 5  # pieces of work of a layer that workers share: the four matrices, then the attention

ONE, HALF, TWO = np.float32(1), np.float32(0.5), np.float32(2)
GELU_SCALE, GELU_CUBE = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)


@compiled
def norm(weights: int, biases: int, epsilon: Any, x: Any, row: int, count: int, ready: Any, place: int) -> None:
    """RMSNorm, or LayerNorm where there are biases, of a row of x to another of `ready`."""
    mean = np.float32(0)
    if biases:
        for column in range(count):
            mean += x[row, column]
        mean /= np.float32(count)
    spread = np.float32(0)
    for column in range(count):
        difference = x[row, column] - mean
        spread += difference * difference
    factor = ONE / np.sqrt(spread / np.float32(count) + epsilon)
    if biases:
        for column in range(count):
            scaled = (x[row, column] - mean) * factor
            ready[place, column] = scaled * number_at(weights + 4 * column) + number_at(biases + 4 * column)
    else:
        for column in range(count):
            ready[place, column] = x[row, column] * factor * number_at(weights + 4 * column)


@compiled
def activate(is_gated: bool, wide: Any, row: int, count: int, ready: Any) -> None:
    """SiLU of the first half times the second, or GELU by tanh."""
    if is_gated:
        for column in range(count):
            gate = wide[row, column]
            ready[row, column] = gate / (ONE + exponential(-gate)) * wide[row, count + column]
    else:
        for column in range(count):
            x = wide[row, column]
            inner = GELU_SCALE * (x + GELU_CUBE * x * x * x)
            tanh = ONE - TWO / (exponential(inner + inner) + ONE)
            ready[row, column] = HALF * x * (ONE + tanh)


@compiled
def read(
    worker: int,
    workers: int,
    sync: Any,
    tickets: Any,
    like: Any,
    is_gated: bool,
    epsilon: Any,
    layers: Any,
    last: Any,
    rows: Any,
    places: Any,
    watched_as: Any,
    heard: Any,
    x: Any,
    ready: Any,
    whole: Any,
    offsets: Any,
    scales: Any,
    wide: Any,
    corners: Any,
    keys: Any,
    values: Any,
    cos: Any,
    sin: Any,
    scores: Any,
    watches: Any,
    watched: Any,
    logits: Any,
) -> None:
    """New tokens of some rows, whose embeddings are in x (tokens, width); the logits (n, vocabulary) of those `heard`.

    tickets (SHARED * layers + 1, workers, 8) int64 are 0. Facts: layers (n, LAYER_FACTS) and last (LAST_FACTS,), int64.
    Of each token, int64: its row, its place in it, behind those of the row that come before it here, and as which its
    attention is watched, -1 if it is not. heard (n,) int64 are tokens, in rising order. keys and values are (layers,
    rows, heads, room, head_dim), float32 or fp16 as uint16, cos and sin (positions, head_dim).

    For what is in between: ready (tokens, most inputs), whole (`room_for_whole`), offsets int32 and scales (both for 16
    tokens more), wide (tokens, most outputs), and each worker's corners (workers, CORNER) and scores (workers, room).
    watches (layers, heads) says which heads' attention is left where in watched (n, any, room), -1 for none.
    """
    tokens, width = x.shape
    me, taken, corner, step = (worker, workers), (ready, whole, offsets, scales), corners[worker], DESK * workers
    afresh, onto = tokens < 0, tokens > 0  # constants would each have `multiply` compiled for themselves
    for layer in range(len(layers)):
        facts, desks = layers[layer], address(tickets) + step * SHARED * layer
        qkv, out, up, down = facts[QKV:OUT], facts[OUT:UP], facts[UP:DOWN], facts[DOWN:NORM_ATTENTION]
        is_last = layer + 1 == len(layers)
        following, rows_of = (last[HEAD:], len(heard)) if is_last else (layers[layer + 1][QKV:OUT], tokens)
        for token in range(worker, tokens, workers):
            norm(facts[NORM_ATTENTION], facts[NORM_ATTENTION + 1], epsilon, x, token, width, ready, token)
            make_whole(like, qkv, taken, tokens, token, width, corner)
        meet(me, sync)
        multiply(me, desks, upcoming(me, out, tokens), like, qkv, taken, tokens, wide, afresh, corner)
        meet(me, sync)
        keep_all(me, layer, rows, places, wide, len(cos) > 0, cos, sin, keys, values)
        meet(me, sync)
        own, own_desks = scores[worker], desks + 4 * step
        attend_all(me, own_desks, layer, rows, places, wide, keys, values, own, ready, watches, watched_as, watched)
        meet(me, sync)
        if is_whole(like):
            for token in range(worker, tokens, workers):
                make_whole(like, out, taken, tokens, token, width, corner)
            meet(me, sync)
        multiply(me, desks + step, upcoming(me, up, tokens), like, out, taken, tokens, x, onto, corner)
        meet(me, sync)
        for token in range(worker, tokens, workers):
            norm(facts[NORM_MLP], facts[NORM_MLP + 1], epsilon, x, token, width, ready, token)
            make_whole(like, up, taken, tokens, token, width, corner)
        meet(me, sync)
        multiply(me, desks + 2 * step, upcoming(me, down, tokens), like, up, taken, tokens, wide, afresh, corner)
        meet(me, sync)
        inner = up[COUNT] // 2 if is_gated else up[COUNT]
        for token in range(worker, tokens, workers):
            activate(is_gated, wide, token, inner, ready)
            make_whole(like, down, taken, tokens, token, inner, corner)
        meet(me, sync)
        multiply(me, desks + 3 * step, upcoming(me, following, rows_of), like, down, taken, tokens, x, onto, corner)
        meet(me, sync)
    head, count, desks = last[HEAD:], len(heard), address(tickets) + step * SHARED * len(layers)
    for number in range(worker, count, workers):
        norm(last[NORM], last[NORM + 1], epsilon, x, heard[number], width, ready, number)
        make_whole(like, head, taken, count, number, width, corner)
    meet(me, sync)
    multiply(me, desks, upcoming(me, layers[0], tokens), like, head, taken, count, logits, afresh, corner)
    meet(me, sync)
