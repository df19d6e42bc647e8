"""The decoder's arithmetic on a processor, compiled by numba: every thread runs all of it, each on its share.

A share is a block of outputs, a row, or the head of a row. Where the next part reads what others wrote, all of them
meet. Addresses are int64, `like` is an array of the weights' type that tells the compiler which it is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engines.chatterbox.t3.processor.compiled import compiled, exactly
from engines.chatterbox.t3.processor.instructions import (
    CELL,
    OUTPUTS,
    TILE_ROWS,
    TILE_SUMS,
    arrive,
    begin_tiles,
    bits_as_float,
    end_tiles,
    fetch,
    four_by_four,
    is_whole,
    look,
    number_at,
    one_by_eight,
    rest,
    step_aside,
    store_as,
    store_whole,
    tiles,
    two_by_eight,
    weighted_16,
    weighted_64,
    whole_at,
)

ROWS_FOR_TILES = 6
SMALL_SHARE = 64 * 1024  # bytes of weights that a worker takes at a time near the end; eight times as much before
ROWS_IN_CACHE = 64  # rows that are multiplied before the next ones: with 4096 inputs each they fill half a megabyte
AHEAD = 4096  # bytes: how far ahead weights are fetched
PATIENCE = 2000  # looks until a thread that waits lets others have its core

# What is known of a matrix, in this order: addresses of weights, scales and biases (0 where there are none), how many
# outputs, how many cells of inputs, whether matrix units multiply it.
CELLS, SCALES, BIASES, COUNT, DEPTH, TILED = range(6)
FACTS = 6
# And of a layer: four matrices, and the weights and biases of two norms.
QKV, OUT, UP, DOWN, NORM_ATTENTION, NORM_MLP = 0, FACTS, 2 * FACTS, 3 * FACTS, 4 * FACTS, 4 * FACTS + 2
LAYER_FACTS = 4 * FACTS + 4
# Of what follows the layers: the norm and the head.
NORM, HEAD = 0, 2
LAST_FACTS = 2 + FACTS
SHARED = 5  # pieces of work of a layer that are shared by tickets, of 8 bytes: the four matrices, then the attention

CORNER = TILE_SUMS  # numbers of what a worker has computed and not finished yet
MOST = np.float32(16319)  # of a whole number that stands for an input: 127 * 128 + 63, so that both digits have 8 bits
NOTHING = np.float32(1e-30)
ONE, HALF, NEAR = np.float32(1), np.float32(0.5), np.float32(127)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
E0, E1, E2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E3, E4, E5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
LOWEST, HIGHEST = np.float32(-87), np.float32(88)
GELU_SCALE, GELU_CUBE = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
TWO = np.float32(2)


@compiled
def exponential(x: Any) -> Any:
    """e to the x, float32, within an ulp or two; in one piece that is computed for many at once (Cephes)."""
    x = min(max(x, LOWEST), HIGHEST)
    whole = np.floor(x * LOG2_E + HALF)
    x = x - whole * LN2_HIGH - whole * LN2_LOW
    series = (((((E0 * x + E1) * x + E2) * x + E3) * x + E4) * x + E5) * x * x + x + ONE
    return series * bits_as_float(np.int32(np.int32(whole + NEAR) << np.int32(23)))


@compiled
def meet(workers: int, sync: Any) -> None:
    """Wait until all are here. `sync` (16,) int64 is zero at first."""
    if workers == 1:
        return
    counter, round_ = sync.ctypes.data, sync.ctypes.data + 64
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


@compiled
def by_tiles(matrix: Any, rows: int) -> Any:
    """Whether matrix units multiply so many rows: of few, most of what they compute is nothing."""
    return matrix[TILED] and rows >= ROWS_FOR_TILES


@compiled
def greatest_of(inputs: Any, row: int, count: int) -> Any:
    greatest = NOTHING
    for column in range(count):
        greatest = max(greatest, abs(inputs[row, column]))
    return greatest


@exactly
def make_whole(like: Any, matrix: Any, inputs: Any, whole: Any, scales: Any, rows: int, row: int, count: int) -> None:
    """A row of inputs as the matrix takes it: for weights of 8 bits, whole numbers and what one of them is worth.

    For matrix units these are of two digits, 128 high + low, which lie as `tiles` wants them.
    """
    if is_whole(like):
        greatest = greatest_of(inputs, row, count)
        scales[row] = greatest / MOST
        factor = MOST / greatest
        if by_tiles(matrix, rows):
            size = matrix[DEPTH] * TILE_ROWS * CELL
            place = whole.ctypes.data + row // TILE_ROWS * 2 * size + row % TILE_ROWS * 4
            for start in range(0, count, 4):
                high, low = np.int64(0), np.int64(0)
                for column in range(4):  # beyond the last there is room, and weights are zero
                    number = np.int32(np.rint(inputs[row, start + column] * factor))
                    digit = (number + np.int32(64)) >> np.int32(7)
                    high |= np.int64(digit & 255) << (8 * column)
                    low |= np.int64((number - (digit << np.int32(7))) & 255) << (8 * column)
                store_whole(place, np.int32(high))
                store_whole(place + size, np.int32(low))
                place += CELL
        else:
            for column in range(count):
                whole[row, column] = np.int16(np.rint(inputs[row, column] * factor))


@compiled
def some_products(
    like: Any,
    matrix: Any,
    tiled: bool,
    inputs: Any,
    whole: Any,
    row: int,
    stop: int,
    first: int,
    ahead: int,
    corner: Any,
) -> Any:
    """As many rows from `row` on as go together times 8 outputs from `first` on, to the `corner`; how many.

    The corner is (rows, 8), float32; but where matrix units multiply, it is what `tiles` gives.
    """
    depth, strip, target = matrix[DEPTH], OUTPUTS * CELL, corner.ctypes.data
    weights = matrix[CELLS] + first * CELL * depth
    if tiled:
        size = matrix[DEPTH] * TILE_ROWS * CELL
        tiles(weights, whole.ctypes.data + row // TILE_ROWS * 2 * size, depth, target, ahead)
        return min(TILE_ROWS, stop - row)
    row_bytes = whole.shape[1] * 2 if is_whole(like) else inputs.shape[1] * 4
    here = (whole.ctypes.data if is_whole(like) else inputs.ctypes.data) + row * row_bytes
    if stop - row >= 4:
        for part in range(0, OUTPUTS, 4):
            four_by_four(
                like, here, row_bytes, weights + part * CELL, CELL, strip, depth, target + 4 * part, 4 * OUTPUTS, ahead
            )
            ahead = 0
        return 4
    if stop - row >= 2:
        two_by_eight(like, here, row_bytes, weights, CELL, strip, depth, target, 4 * OUTPUTS, ahead)
        return 2
    one_by_eight(like, here, row_bytes, weights, CELL, strip, depth, target, 4 * OUTPUTS, ahead)
    return 1


@compiled
def multiply(
    tickets: int,
    like: Any,
    matrix: Any,
    inputs: Any,
    whole: Any,
    scales: Any,
    rows: int,
    results: Any,
    adds: bool,
    corner: Any,
) -> None:
    """Inputs (rows, any) times a matrix to results (rows, outputs), or added to them.

    `tickets` is the address of a number that is 0 before: a worker takes the next share of the outputs when it is done
    with one, for cores are not equally fast from moment to moment; small shares come last. `corner` (CORNER,) is this
    worker's.
    """
    tiled = is_whole(like) and by_tiles(matrix, rows)
    if tiled:
        begin_tiles()
    blocks = (matrix[COUNT] + OUTPUTS - 1) // OUTPUTS
    small = max(1, SMALL_SHARE // (matrix[DEPTH] * OUTPUTS * CELL))
    large = 8 * small
    larges = blocks * 3 // 4 // large
    shares = larges + (blocks - larges * large + small - 1) // small
    chunks = (rows + ROWS_IN_CACHE - 1) // ROWS_IN_CACHE
    ticket = arrive(tickets)
    while ticket < shares * chunks:
        start, number = ticket // shares * ROWS_IN_CACHE, ticket % shares
        stop = min(start + ROWS_IN_CACHE, rows)
        begin, end = number * large, number * large + large
        if number >= larges:
            begin = larges * large + (number - larges) * small
            end = min(begin + small, blocks)
        for block in range(begin, end):
            first, row, ahead = block * OUTPUTS, start, AHEAD
            while row < stop:
                taken = some_products(like, matrix, tiled, inputs, whole, row, stop, first, ahead, corner)
                finish(like, matrix, tiled, scales, row, taken, first, results, adds, corner)
                row, ahead = row + taken, 0
        ticket = arrive(tickets)
    if tiled:
        end_tiles()


@exactly
def finish(
    like: Any,
    matrix: Any,
    tiled: bool,
    scales: Any,
    row: int,
    taken: int,
    first: int,
    results: Any,
    adds: bool,
    corner: Any,
) -> None:
    """What is in the corner, scaled and with its bias, to the results."""
    row_step, output_step = OUTPUTS, 1
    if tiled:
        row_step, output_step = 1, TILE_ROWS
        digits = OUTPUTS * TILE_ROWS
        for number in range(digits):
            place = corner.ctypes.data + number * 4
            high = np.int32(whole_at(place) + whole_at(place + 8 * digits))
            low = np.int32(whole_at(place + 4 * digits) + whole_at(place + 12 * digits))
            corner[number] = np.float32(128.0 * high + low)  # what is between is float64, and exact
    for one in range(taken):
        for output in range(min(OUTPUTS, matrix[COUNT] - first)):
            product = corner[one * row_step + output * output_step]
            if matrix[SCALES]:
                scale = number_at(matrix[SCALES] + 4 * (first + output))
                product *= scales[row + one] * scale if is_whole(like) else scale
            if matrix[BIASES]:
                product += number_at(matrix[BIASES] + 4 * (first + output))
            if adds:
                product += results[row + one, first + output]
            results[row + one, first + output] = product


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
    for channel in range(size):
        store_as(keys, keys.ctypes.data + start + channel * keys.itemsize, wide[token, key + channel])
        store_as(values, values.ctypes.data + start + channel * keys.itemsize, wide[token, value + channel])


@compiled
def where(store: Any, layer: int, row: int, head: int) -> Any:
    """How far into keys or values those of a head of a row begin, in bytes."""
    _, rows, heads, room, size = store.shape
    return ((layer * rows + row) * heads + head) * room * size * store.itemsize


@compiled
def attend(
    layer: int, row: int, head: int, known: int, token: int, wide: Any, keys: Any, values: Any, scores: Any, ready: Any
) -> Any:
    """What a token's head takes from the first `known` positions of its row, to `ready`.

    `scores` (room,) is this worker's: the attention's weights afterwards, but for a factor, which is returned.
    """
    size, start = keys.shape[4], where(keys, layer, row, head)
    step = size * keys.itemsize
    query = wide.ctypes.data + (token * wide.shape[1] + head * size) * 4
    first, target = keys.ctypes.data + start, scores.ctypes.data
    for position in range(0, known, 8):  # beyond what is known there is room, and something finite
        for line in range(0, 8 * step, CELL):
            fetch(first + (position + 16) * step + line)
        one_by_eight(keys, query, 0, first + position * step, step, CELL, step // CELL, target + position * 4, 0, 0)
    scale = ONE / np.sqrt(np.float32(size))
    greatest = scores[0]
    for position in range(known):
        greatest = max(greatest, scores[position])
    total = np.float32(0)
    for position in range(known):
        weight = exponential((scores[position] - greatest) * scale)
        scores[position] = weight
        total += weight
    vectors, result = values.ctypes.data + start, ready.ctypes.data + (token * ready.shape[1] + head * size) * 4
    if size % 64 == 0:
        for channel in range(0, size, 64):
            weighted_64(values, target, known, vectors + channel * values.itemsize, step, result + channel * 4)
    else:
        for channel in range(0, size, 16):
            weighted_16(values, target, known, vectors + channel * values.itemsize, step, result + channel * 4)
    share = ONE / total
    for channel in range(size):
        ready[token, head * size + channel] *= share
    return share


@compiled
def keep_share(
    worker: int,
    workers: int,
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
    heads = keys.shape[2]
    pairs = len(rows) * heads
    for pair in range(worker * pairs // workers, (worker + 1) * pairs // workers):
        token, head = pair // heads, pair % heads
        keep(layer, rows[token], head, places[token], token, wide, turns, cos, sin, keys, values)


@compiled
def attend_by_tickets(
    tickets: int,
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
    """`attend` for one token and head after the other, as tickets give them out; what is watched is left behind."""
    heads, longest = keys.shape[2], places.max() + 1
    pair = arrive(tickets)
    while pair < len(rows) * heads:
        token, head = pair // heads, pair % heads
        known = places[token] + 1
        share = attend(layer, rows[token], head, known, token, wide, keys, values, scores, ready)
        if watches[layer, head] >= 0 and watched_as[token] >= 0:
            seen = watched[watches[layer, head], watched_as[token]]
            for position in range(longest):
                seen[position] = scores[position] * share if position < known else np.float32(0)
        pair = arrive(tickets)


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

    tickets (SHARED * layers + 1,) int64 are 0. Facts: layers (n, LAYER_FACTS) and last (LAST_FACTS,), int64. Of each
    token, int64: its row, its place in it, behind those of the row that come before it here, and as which its attention
    is watched, -1 if it is not. heard (n,) int64 are tokens, in rising order. keys and values are (layers, rows, heads,
    room, head_dim), float32 or fp16 as uint16, cos and sin (positions, head_dim).

    For what is in between: ready (tokens, most inputs), whole (the same, int16), scales (tokens,), wide (tokens, most
    outputs), and each worker's corners (workers, CORNER) and scores (workers, room). watches (layers, heads) says which
    heads' attention is left where in watched (n, any, room), -1 for none.
    """
    tokens, width = x.shape
    corner = corners[worker]
    for layer in range(len(layers)):
        facts = layers[layer]
        qkv, out, up, down = facts[QKV:OUT], facts[OUT:UP], facts[UP:DOWN], facts[DOWN:NORM_ATTENTION]
        desk = tickets.ctypes.data + 8 * SHARED * layer
        for token in range(worker, tokens, workers):
            norm(facts[NORM_ATTENTION], facts[NORM_ATTENTION + 1], epsilon, x, token, width, ready, token)
            make_whole(like, qkv, ready, whole, scales, tokens, token, width)
        meet(workers, sync)
        multiply(desk, like, qkv, ready, whole, scales, tokens, wide, False, corner)
        meet(workers, sync)
        keep_share(worker, workers, layer, rows, places, wide, len(cos) > 0, cos, sin, keys, values)
        meet(workers, sync)
        attend_by_tickets(
            desk + 32, layer, rows, places, wide, keys, values, scores[worker], ready, watches, watched_as, watched
        )
        meet(workers, sync)
        if is_whole(like):
            for token in range(worker, tokens, workers):
                make_whole(like, out, ready, whole, scales, tokens, token, width)
            meet(workers, sync)
        multiply(desk + 8, like, out, ready, whole, scales, tokens, x, True, corner)
        meet(workers, sync)
        for token in range(worker, tokens, workers):
            norm(facts[NORM_MLP], facts[NORM_MLP + 1], epsilon, x, token, width, ready, token)
            make_whole(like, up, ready, whole, scales, tokens, token, width)
        meet(workers, sync)
        multiply(desk + 16, like, up, ready, whole, scales, tokens, wide, False, corner)
        meet(workers, sync)
        inner = up[COUNT] // 2 if is_gated else up[COUNT]
        for token in range(worker, tokens, workers):
            activate(is_gated, wide, token, inner, ready)
            make_whole(like, down, ready, whole, scales, tokens, token, inner)
        meet(workers, sync)
        multiply(desk + 24, like, down, ready, whole, scales, tokens, x, True, corner)
        meet(workers, sync)
    head, count, desk = last[HEAD:], len(heard), tickets.ctypes.data + 8 * SHARED * len(layers)
    for number in range(worker, count, workers):
        norm(last[NORM], last[NORM + 1], epsilon, x, heard[number], width, ready, number)
        make_whole(like, head, ready, whole, scales, count, number, width)
    meet(workers, sync)
    multiply(desk, like, head, ready, whole, scales, count, logits, False, corner)
    meet(workers, sync)


@compiled
def product(
    worker: int,
    workers: int,
    sync: Any,
    tickets: Any,
    like: Any,
    matrix: Any,
    inputs: Any,
    whole: Any,
    scales: Any,
    results: Any,
    corners: Any,
) -> None:
    """Inputs (rows, inputs) times a matrix to results (rows, outputs)."""
    rows = len(inputs)
    if is_whole(like):
        for row in range(worker, rows, workers):
            make_whole(like, matrix, inputs, whole, scales, rows, row, inputs.shape[1])
        meet(workers, sync)
    multiply(tickets.ctypes.data, like, matrix, inputs, whole, scales, rows, results, False, corners[worker])
    meet(workers, sync)
