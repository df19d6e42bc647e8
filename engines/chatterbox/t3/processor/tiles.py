"""The same products by Intel's matrix units, for many rows at once."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engines.chatterbox.t3.processor.vectors import (
    BYTE,
    CELL,
    GROUP,
    HAS_TILES,
    INT,
    LONG,
    OUTPUTS,
    TILE_ROWS,
    at,
    call,
    fetch_line,
    load,
    of_digits,
    pointer,
    store,
    turned,
)

# How the registers are used. Sums are of high and of low digits for two outputs of each block: a product can begin long
# before the one before it is done, if it goes to another sum.
_AT_ONCE = 2
_SUMS, _WEIGHTS, _HIGH, _LOW = ((0, 1), (2, 3)), (4, 5), 6, 7
_TILE = CELL * TILE_ROWS  # bytes
TILE_SUMS = OUTPUTS * 2 * _TILE // 4  # int32 that `tiles` needs room for


def _configuration() -> list[int]:
    """As ldtilecfg reads it: palette 1, bytes and rows of each register."""
    configuration = [1, *[0] * 63]
    for register in range(8):
        configuration[16 + 2 * register] = CELL
        configuration[48 + register] = TILE_ROWS
    return configuration


@intrinsic
def begin_tiles(typing: Any) -> Any:
    """Get this thread's matrix units ready for `tiles`."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if HAS_TILES:
            configuration = ir.Constant(ir.ArrayType(BYTE, 64), [BYTE(value) for value in _configuration()])
            place = builder.bitcast(cgutils.alloca_once_value(builder, configuration), BYTE.as_pointer())
            call(builder, "llvm.x86.ldtilecfg", ir.VoidType(), place)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def end_tiles(typing: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if HAS_TILES:
            call(builder, "llvm.x86.tilerelease", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def tiles(
    typing: Any, digits: Any, weights: Any, cells: Any, wanted: Any, offsets: Any, sums: Any, results: Any
) -> Any:
    """Digits of 16 rows times a group of blocks to results (16, 16, 4) float32: blocks, rows, outputs.

    `digits` are (2, cells, 16, 16, 4) int8, the high ones and the low ones: for each cell the digits of four inputs of
    all rows beside each other; 128 times the `offsets` (16,) int32 of the rows is taken away from what comes. `sums` is
    room for TILE_SUMS int32. As many weights as these are fetched meanwhile, from `wanted` on, or if that is 0 these
    themselves, which are near already.
    """
    signature = types.void(*[types.int64] * 7)

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if not HAS_TILES:
            return context.get_dummy_value()
        digits, weights, cells, wanted, offsets, sums, results = given
        _multiply(builder, digits, weights, cells, wanted, sums)
        offset = load(builder, offsets, INT, TILE_ROWS)
        with cgutils.for_range(builder, LONG(GROUP)) as loop:
            own, totals = at(builder, sums, CELL, loop.index), []
            for output in range(OUTPUTS):
                places = (at(builder, own, _TILE, 2 * output + digit) for digit in (0, 1))
                high, low = (load(builder, place, INT, TILE_ROWS) for place in places)
                totals.append(of_digits(builder, high, low, offset))
            here = at(builder, results, 4 * OUTPUTS * TILE_ROWS, loop.index)
            for number, some in enumerate(turned(builder, totals)):
                store(builder, some, at(builder, here, 4 * TILE_ROWS, number))
        return context.get_dummy_value()

    return signature, generate


def _multiply(builder: Any, digits: Any, weights: Any, cells: Any, wanted: Any, sums: Any) -> None:
    """To sums (4, 2, blocks, rows) int32: for each output of a block, of high and of low digits."""
    nothing, line = ir.VoidType(), LONG(CELL)
    block_bytes = builder.mul(cells, LONG(OUTPUTS * CELL))
    lows = at(builder, digits, _TILE, cells)
    wanted = builder.select(builder.icmp_signed("!=", wanted, LONG(0)), wanted, weights)

    def tile(address: Any) -> Any:
        return pointer(builder, address, BYTE)

    for start in range(0, OUTPUTS, _AT_ONCE):
        for total in (number for totals in _SUMS for number in totals):
            call(builder, "llvm.x86.tilezero", nothing, BYTE(total))
        with cgutils.for_range(builder, cells) as loop:
            cell = at(builder, weights, OUTPUTS * CELL, loop.index)
            step = builder.add(builder.mul(cells, LONG(start // _AT_ONCE)), loop.index)
            for number in range(GROUP * _AT_ONCE):
                fetch_line(builder, at(builder, at(builder, wanted, GROUP * _AT_ONCE * CELL, step), CELL, number))
            for register, origin in ((_HIGH, digits), (_LOW, lows)):
                place = tile(at(builder, origin, _TILE, loop.index))
                call(builder, "llvm.x86.tileloadd64", nothing, BYTE(register), place, line)
            for number, register in enumerate(_WEIGHTS):
                place = tile(at(builder, cell, CELL, start + number))
                call(builder, "llvm.x86.tileloadd64", nothing, BYTE(register), place, block_bytes)
            for register, totals in zip(_WEIGHTS, _SUMS, strict=True):
                for total, factor in zip(totals, (_HIGH, _LOW), strict=True):
                    call(builder, "llvm.x86.tdpbusd", nothing, BYTE(total), BYTE(register), BYTE(factor))
        for number, totals in enumerate(_SUMS):
            for digit, total in enumerate(totals):
                place = tile(at(builder, sums, _TILE, 2 * (start + number) + digit))
                call(builder, "llvm.x86.tilestored64", nothing, BYTE(total), place, line)
