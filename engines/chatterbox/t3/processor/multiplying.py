"""Inputs times a matrix, by all workers together.

Rows of inputs are `taken`: (inputs, whole, offsets, scales), where inputs are float32 (rows, any) and the others are as
`make_whole` leaves them, so that the scales are 1 and the offsets 0 where there are no whole numbers. Addresses are
int64, `like` is an array of the weights' type that tells the compiler which it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.chatterbox.t3.processor.compiled import compiled, exactly, within
from engines.chatterbox.t3.processor.instructions import bits_as_float, copy_four, fetch, float_as_bits, is_whole
from engines.chatterbox.t3.processor.products import products_of_1, products_of_2, products_of_4, settle
from engines.chatterbox.t3.processor.sharing import address, begin_of, meet, ticket
from engines.chatterbox.t3.processor.tiles import TILE_SUMS, begin_tiles, end_tiles, tiles
from engines.chatterbox.t3.processor.vectors import AHEAD, CELL, GROUP, HAS_DIGITS, OUTPUTS, TILE_ROWS

ROWS_FOR_TILES = 6
PIECE = 64 * 1024  # bytes of weights that a worker takes at a time, if not the blocks that matrix units take
RUN = 16 * 1024  # bytes of weights that stay near while several rows are multiplied
ROWS_IN_CACHE = 64  # rows that are multiplied before the next ones: with 4096 inputs each they fill half a megabyte

# What is known of a matrix, in this order: addresses of weights, scales and biases (0 if there are none), how many
# outputs, how many cells of inputs, whether matrix units multiply it.
CELLS, SCALES, BIASES, COUNT, DEPTH, TILED = range(6)
FACTS = 6

PRODUCTS = GROUP * TILE_ROWS * OUTPUTS  # that a worker has computed and not settled yet, at most
CORNER = PRODUCTS + TILE_SUMS  # numbers of 4 bytes for a worker alone
MOST = np.float32(16319)  # of a whole number that stands for an input: 127 * 128 + 63, so that both digits have 8 bits
NOTHING = np.float32(1e-30)
MAGNITUDE = np.int32(2**31 - 1)  # the bits of a float32 without its sign


@compiled
def by_tiles(matrix: Any, rows: int) -> Any:
    """Whether matrix units multiply so many rows: of few, most of what they compute is nothing."""
    return matrix[TILED] and rows >= ROWS_FOR_TILES


@compiled
def greatest_of(inputs: Any, row: int, count: int) -> Any:
    """The greatest magnitude: as whole numbers, in whose order they are and of which many are compared at once."""
    greatest = np.int32(0)
    for column in range(count):
        greatest = max(greatest, float_as_bits(inputs[row, column]) & MAGNITUDE)
    return max(NOTHING, bits_as_float(greatest))


@within
def to_digits(inputs: Any, row: int, start: int, count: int, factor: Any, digits: Any, here: int) -> Any:
    """The inputs of a cell, times the factor, as 64 high digits and 64 low ones; their sum."""
    total = np.int32(0)
    for column in range(min(CELL, count - start)):
        number = np.int32(np.rint(inputs[row, start + column] * factor))
        digit = (number + np.int32(64)) >> np.int32(7)
        digits[here + column] = np.int8(digit)
        digits[here + CELL + column] = np.int8(number - (digit << np.int32(7)))
        total = np.int32(total + number)
    return total


@exactly
def make_whole(like: Any, matrix: Any, taken: Any, rows: int, row: int, count: int, corner: Any) -> None:
    """A row of inputs as the matrix takes it: for weights of 8 bits, whole numbers and what one of them is worth.

    Weights are kept 128 too great: the row's offset, its sum, is for what comes of that. Where the processor multiplies
    bytes, numbers are of two digits, 128 high + low, which lie as `tiles` or `products_of_2` want them. Beyond the last
    input there may be anything, for weights are 0 there.
    """
    if not is_whole(like):
        return
    inputs, whole, offsets, scales = taken
    greatest, depth, total = greatest_of(inputs, row, count), matrix[DEPTH], np.int32(0)
    scales[row], factor = greatest / MOST, MOST / greatest
    if not HAS_DIGITS:
        for column in range(count):
            number = np.int32(np.rint(inputs[row, column] * factor))
            whole[row, column] = np.int16(number)
            total = np.int32(total + number)
    elif by_tiles(matrix, rows):
        digits, lows = corner.view(np.int8), depth * TILE_ROWS * CELL
        place = address(whole) + row // TILE_ROWS * 2 * lows + row % TILE_ROWS * 4
        first = row % TILE_ROWS * depth // TILE_ROWS  # elsewhere for each row: lines are shared by those of a tile
        for turn in range(depth):
            cell = (first + turn) % depth
            total = np.int32(total + to_digits(inputs, row, cell * CELL, count, factor, digits, 0))
            target = place + cell * TILE_ROWS * CELL
            for four in range(0, CELL, 4):
                copy_four(address(corner) + four, target)
                copy_four(address(corner) + CELL + four, target + lows)
                target += CELL
    else:
        pair = row // 2 * 2
        digits, place = whole[pair : pair + 2].reshape(-1).view(np.int8), row % 2 * 2 * CELL
        for cell in range(depth):
            total = np.int32(total + to_digits(inputs, row, cell * CELL, count, factor, digits, place))
            place += 4 * CELL
    offsets[row] = total


@within
def block_bytes(matrix: Any) -> Any:
    return matrix[DEPTH] * OUTPUTS * CELL


@within
def piece_of(matrix: Any, tiled: bool) -> Any:
    """How many blocks are taken at a time: as many as matrix units take, where they do."""
    return GROUP if tiled else min(GROUP, max(1, PIECE // block_bytes(matrix)))


@within
def blocks_of(matrix: Any) -> Any:
    return (matrix[COUNT] + OUTPUTS - 1) // OUTPUTS


@within
def pieces_of(matrix: Any, tiled: bool) -> Any:
    piece = piece_of(matrix, tiled)
    return (blocks_of(matrix) + piece - 1) // piece


@within
def upcoming(me: Any, matrix: Any, rows: int) -> Any:
    """The address of the weights that this worker wants first."""
    worker, workers = me
    tiled = by_tiles(matrix, rows)
    first = begin_of(pieces_of(matrix, tiled), worker, workers) * piece_of(matrix, tiled)
    return matrix[CELLS] + first * block_bytes(matrix)


@within
def multiply_run(
    like: Any,
    matrix: Any,
    taken: Any,
    row: int,
    stop: int,
    block: int,
    blocks: int,
    results: Any,
    adds: bool,
    corner: Any,
) -> None:
    """Rows from one on and before another times so many blocks of outputs."""
    inputs, whole, offsets, _ = taken
    row_bytes = whole.shape[1] * 2 if is_whole(like) else inputs.shape[1] * 4
    origin = address(whole) if is_whole(like) else address(inputs)
    weights, cells, products = matrix[CELLS] + block * block_bytes(matrix), matrix[DEPTH], address(corner)
    fetches = True
    while row < stop:
        here, own, count = origin + row * row_bytes, address(offsets) + 4 * row, 1
        if stop - row >= 4 and not (is_whole(like) and HAS_DIGITS):
            count = 4
            products_of_4(like, here, row_bytes, weights, cells, blocks, fetches, own, products)
        elif stop - row >= 2:
            count = 2
            products_of_2(like, here, row_bytes, weights, cells, blocks, fetches, own, products)
        else:
            products_of_1(like, here, row_bytes, weights, cells, blocks, fetches, own, products)
        finish(matrix, taken, row, count, count, block, blocks, results, adds, corner)
        row, fetches = row + count, False


@within
def multiply_group(
    matrix: Any, taken: Any, row: int, stop: int, block: int, wanted: int, results: Any, adds: bool, corner: Any
) -> None:
    """Rows from one on and before another times the blocks of a group, by matrix units."""
    _, whole, offsets, _ = taken
    weights, cells, products = matrix[CELLS] + block * block_bytes(matrix), matrix[DEPTH], address(corner)
    for start in range(row, stop, TILE_ROWS):
        digits, count = address(whole) + start * 2 * cells * CELL, min(TILE_ROWS, stop - start)
        tiles(digits, weights, cells, wanted, address(offsets) + 4 * start, products + 4 * PRODUCTS, products)
        finish(matrix, taken, start, count, TILE_ROWS, block, GROUP, results, adds, corner)
        wanted = 0


@within
def finish(
    matrix: Any,
    taken: Any,
    row: int,
    rows: int,
    beside: int,
    block: int,
    blocks: int,
    results: Any,
    adds: bool,
    corner: Any,
) -> None:
    """What is in the corner, (blocks, beside, 4), to the results of so many rows."""
    first, result_bytes = block * OUTPUTS, 4 * results.shape[1]
    biases = matrix[BIASES] + 4 * first if matrix[BIASES] else 0
    count = min(blocks * OUTPUTS, matrix[COUNT] - first)
    target = address(results) + row * result_bytes + 4 * first
    scales, worths = address(taken[3]) + 4 * row, matrix[SCALES] + 4 * first
    settle(address(corner), beside, rows, scales, worths, biases, count, adds, target, result_bytes)


@exactly
def multiply(
    me: Any,
    desks: int,
    afterwards: int,
    like: Any,
    matrix: Any,
    taken: Any,
    rows: int,
    results: Any,
    adds: bool,
    corner: Any,
) -> None:
    """The first rows times a matrix to results (rows, outputs), or added to them.

    A worker's weights lie one after the other, which is how they are read fastest. `desks` is the address of its and
    the others' tickets, all 0 before; `afterwards` that of the weights that it wants next.
    `corner` (CORNER,) is its own.
    """
    worker, workers = me
    tiled = is_whole(like) and by_tiles(matrix, rows)
    if tiled:
        begin_tiles()
    blocks, piece, pieces = blocks_of(matrix), piece_of(matrix, tiled), pieces_of(matrix, tiled)
    size = block_bytes(matrix)
    run = piece if rows <= 2 else max(1, RUN // size)
    chunks = (rows + ROWS_IN_CACHE - 1) // ROWS_IN_CACHE
    for other in range(worker, worker + workers):
        owner = other % workers
        begin, end = begin_of(pieces, owner, workers), begin_of(pieces, owner + 1, workers)
        number = ticket(desks, owner)
        while number < (end - begin) * chunks:
            start, own = number // (end - begin) * ROWS_IN_CACHE, begin + number % (end - begin)
            stop, first, last = min(start + ROWS_IN_CACHE, rows), own * piece, min(own * piece + piece, blocks)
            if tiled:
                wanted = afterwards if own + 1 == end else matrix[CELLS] + last * size
                multiply_group(matrix, taken, start, stop, first, wanted, results, adds, corner)
            else:
                for block in range(first, last, run):
                    count = min(run, last - block)
                    multiply_run(like, matrix, taken, start, stop, block, count, results, adds, corner)
            number = ticket(desks, owner)
    if tiled:
        end_tiles()
    else:
        for line in range(0, AHEAD, CELL):
            fetch(afterwards + line)


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
    offsets: Any,
    scales: Any,
    results: Any,
    corners: Any,
) -> None:
    """Inputs (rows, inputs) times a matrix to results (rows, outputs)."""
    me, taken, rows, corner = (worker, workers), (inputs, whole, offsets, scales), len(inputs), corners[worker]
    if is_whole(like):
        for row in range(worker, rows, workers):
            make_whole(like, matrix, taken, rows, row, inputs.shape[1], corner)
        meet(me, sync)
    multiply(me, address(tickets), upcoming(me, matrix, rows), like, matrix, taken, rows, results, rows < 0, corner)
    meet(me, sync)
