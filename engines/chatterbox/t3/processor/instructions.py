"""What numba has no words for: vector products over packed weights, and how threads wait for one another.

Everything is given by address. Sums go in an order that depends on nothing but the number of inputs, so a row's product
is the same to the bit whatever else is computed beside it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

CELL = 64  # bytes of weights that are multiplied at a time
OUTPUTS = 8  # that lie beside each other
CELLS_IN_32_BITS = 16  # of 64 products of 15 bits and 8: 16319 * 127 * 1024 is below 2**31

_FEATURES = llvm.get_host_cpu_features()
_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
LANES = 16 if _FEATURES.get("avx512f") and _FEATURES.get("avx512bw") else 8  # floats of a vector
# Whether the processor itself takes fp16 for float32 and back.
HAS_HALVES = not _IS_X86 or bool(_FEATURES.get("f16c"))
# Intel's matrix units, where the processor has them and the system lets them be used.
HAS_TILES = bool(_FEATURES.get("amx-int8")) and bool(torch.cpu._init_amx())
TILE_ROWS = 16  # of inputs that go together

_HAS_VNNI = LANES == 16 and bool(_FEATURES.get("avx512vnni"))
_HAS_PAIRS = LANES == 16 or bool(_FEATURES.get("avx2"))  # products of 16 bits, added in pairs
_FLOAT, _HALF = ir.FloatType(), ir.HalfType()
_BYTE, _SHORT, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))

# Kinds of weights, each by a type that stands for it: the compiler tells functions apart by the types of what they are
# given, and numba knows not all of these kinds.
FLOAT32, FLOAT16, BFLOAT16, INT16, INT8 = types.float32, types.uint16, types.uint32, types.int16, types.int8


def _vector(element: ir.Type, count: int) -> ir.Type:
    return ir.VectorType(element, count)


def _load(builder: Any, address: Any, offset: Any, element: ir.Type, count: int) -> Any:
    place = builder.add(address, offset)
    return builder.load(builder.inttoptr(place, _vector(element, count).as_pointer()), align=1)


def _call(builder: Any, name: str, result: ir.Type, *arguments: Any) -> Any:
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def _pick(builder: Any, vector: Any, lanes: Sequence[int], other: Any = None) -> Any:
    """Lanes of a vector, and of another behind it."""
    other = ir.Constant(vector.type, ir.Undefined) if other is None else other
    return builder.shuffle_vector(vector, other, ir.Constant(_vector(_INT, len(lanes)), list(lanes)))


class _Arithmetic:
    """How weights of one kind are multiplied: `per` inputs at a time, into sums (LANES,) of type `sums`."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.is_whole = kind == INT8
        self.weight = {FLOAT32: _FLOAT, FLOAT16: _HALF, BFLOAT16: _SHORT, INT16: _SHORT, INT8: _BYTE}[kind]
        self.weight_bytes = {FLOAT32: 4, INT8: 1}.get(kind, 2)
        self.input = _SHORT if self.is_whole else _FLOAT
        self.input_bytes = 2 if self.is_whole else 4
        self.per = 2 * LANES if self.is_whole else LANES
        self.sums = _vector(_INT if self.is_whole else _FLOAT, LANES)

    def weights(self, builder: Any, address: Any, offset: Any) -> Any:
        loaded = _load(builder, address, offset, self.weight, self.per)
        if self.kind == INT8:
            return builder.sext(loaded, _vector(_SHORT, self.per))
        if self.kind == INT16:
            return builder.sitofp(builder.sext(loaded, _vector(_INT, self.per)), _vector(_FLOAT, self.per))
        if self.kind == FLOAT16:
            return builder.fpext(loaded, _vector(_FLOAT, self.per))
        if self.kind == BFLOAT16:
            wide = builder.zext(loaded, _vector(_INT, self.per))
            sixteen = ir.Constant(wide.type, [16] * self.per)
            return builder.bitcast(builder.shl(wide, sixteen), _vector(_FLOAT, self.per))
        return loaded

    def add(self, builder: Any, sums: Any, inputs: Any, weights: Any) -> Any:
        if not self.is_whole:
            return _call(builder, f"llvm.fma.v{LANES}f32", self.sums, inputs, weights, sums)
        if _HAS_VNNI:
            return _call(
                builder,
                "llvm.x86.avx512.vpdpwssd.512",
                self.sums,
                sums,
                *(builder.bitcast(one, self.sums) for one in (inputs, weights)),
            )
        if _HAS_PAIRS:
            name = "llvm.x86.avx512.pmaddw.d.512" if LANES == 16 else "llvm.x86.avx2.pmadd.wd"
            return builder.add(sums, _call(builder, name, self.sums, inputs, weights))
        for first in (0, 1):
            lanes = range(first, self.per, 2)
            factors = (builder.sext(_pick(builder, one, lanes), self.sums) for one in (inputs, weights))
            sums = builder.add(sums, builder.mul(*factors))
        return sums

    def totals(self, builder: Any, sums: list[Any]) -> list[Any]:
        """Each vector's lanes added up, halves onto halves; the totals, in their order, as the lanes of some vectors.

        Vectors are folded in pairs, so that hardly a lane is idle. How a vector's lanes are paired does not depend on
        the others.
        """
        group = LANES
        while group > 1:
            starts = [start + lane for start in range(0, 2 * LANES, group) for lane in range(group // 2)]
            if len(sums) == 1:
                starts = starts[: len(starts) // 2 * sums[0].type.count // LANES]
            pairs = list(zip(sums[::2], sums[1::2], strict=True)) if len(sums) > 1 else [(sums[0], sums[0])]
            folded = []
            for one, other in pairs:
                low = _pick(builder, one, starts, other)
                high = _pick(builder, one, [start + group // 2 for start in starts], other)
                folded.append(builder.add(low, high) if self.is_whole else builder.fadd(low, high))
            sums, group = folded, group // 2
        return sums


def _added_in_parts(builder: Any, cells: Any, add_cells: Callable[[Any, Any], list[Any]], count: int) -> list[Any]:
    """What `add_cells(first, cells)` gives, `count` int32 as vectors, for all cells together, as floats.

    So many cells go together that their sums cannot overflow; the sums of these are of 64 bits.
    """
    lanes = min(LANES, count)
    wide = _vector(_LONG, lanes)
    places = [cgutils.alloca_once(builder, wide) for _ in range(count // lanes)]
    for place in places:
        builder.store(ir.Constant(wide, [0] * lanes), place)
    part = _LONG(CELLS_IN_32_BITS)
    parts = builder.udiv(builder.add(cells, builder.sub(part, _LONG(1))), part)
    with cgutils.for_range(builder, parts) as loop:
        first = builder.mul(loop.index, part)
        left = builder.sub(cells, first)
        some = builder.select(builder.icmp_signed("<", left, part), left, part)
        for place, total in zip(places, add_cells(first, some), strict=True):
            builder.store(builder.add(builder.load(place), builder.sext(total, wide)), place)
    return [builder.sitofp(builder.load(place), _vector(_FLOAT, lanes)) for place in places]


def _products(rows: int, outputs: int) -> Any:
    """`rows` rows of inputs times `outputs` rows of weights."""

    @intrinsic
    def products(
        typing: Any,
        like: Any,
        inputs: Any,
        row_bytes: Any,
        weights: Any,
        output_bytes: Any,
        cell_bytes: Any,
        cells: Any,
        results: Any,
        result_bytes: Any,
        ahead: Any,
    ) -> Any:
        arithmetic = _Arithmetic(like.dtype)
        signature = types.void(like, *[types.int64] * 9)

        def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
            _, inputs, row_bytes, weights, output_bytes, cell_bytes, cells, results, result_bytes, ahead = given
            sums = [[cgutils.alloca_once(builder, arithmetic.sums) for _ in range(outputs)] for _ in range(rows)]
            vectors = CELL // (arithmetic.per * arithmetic.weight_bytes)
            width = arithmetic.per * arithmetic.input_bytes

            def add_cell(number: Any) -> None:
                cell = builder.mul(number, cell_bytes)
                with builder.if_then(builder.icmp_signed("!=", ahead, _LONG(0)), likely=False):
                    start = builder.add(builder.add(weights, cell), ahead)
                    for line in range(0, OUTPUTS * CELL, CELL):
                        pointer = builder.inttoptr(builder.add(start, _LONG(line)), _BYTE.as_pointer())
                        _call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, _INT(0), _INT(2), _INT(1))
                for vector in range(vectors):
                    start = builder.add(builder.mul(number, _LONG(vectors * width)), _LONG(vector * width))
                    places = [builder.add(builder.mul(row_bytes, _LONG(row)), start) for row in range(rows)]
                    columns = [_load(builder, inputs, place, arithmetic.input, arithmetic.per) for place in places]
                    for output in range(outputs):
                        offset = builder.add(cell, builder.mul(output_bytes, _LONG(output)))
                        part = builder.add(offset, _LONG(vector * arithmetic.per * arithmetic.weight_bytes))
                        factor = arithmetic.weights(builder, weights, part)
                        for row in range(rows):
                            so_far = builder.load(sums[row][output])
                            builder.store(arithmetic.add(builder, so_far, columns[row], factor), sums[row][output])

            def add_cells(first: Any, count: Any) -> list[Any]:
                """The totals of some cells."""
                for place in (place for row in sums for place in row):
                    builder.store(ir.Constant(arithmetic.sums, [0] * LANES), place)
                with cgutils.for_range(builder, count) as loop:
                    add_cell(builder.add(first, loop.index))
                return arithmetic.totals(builder, [builder.load(place) for row in sums for place in row])

            if arithmetic.is_whole:
                totals = _added_in_parts(builder, cells, add_cells, rows * outputs)
            else:
                totals = add_cells(_LONG(0), cells)
            for row in range(rows):
                vector, lane = divmod(row * outputs, LANES)
                own = _pick(builder, totals[vector], range(lane, lane + outputs))
                place = builder.add(results, builder.mul(result_bytes, _LONG(row)))
                builder.store(own, builder.inttoptr(place, own.type.as_pointer()), align=4)
            return context.get_dummy_value()

        return signature, generate

    return products


# (like, inputs, row_bytes, weights, output_bytes, cell_bytes, cells, results, result_bytes, ahead), all but the first
# int64: inputs (rows, 64 bytes of weights * cells) times weights (outputs, the same) to results (rows, outputs), as
# float32. `like` is an array of the weights' type; inputs are float32, or int16 if the weights are int8. Cells of 8
# outputs are fetched `ahead` bytes before they are wanted, unless it is 0.
one_by_eight = _products(1, 8)
two_by_eight = _products(2, 8)
four_by_four = _products(4, 4)


# How the registers of the matrix units are used. Sums are of high and of low digits, each of every other cell, for a
# product can begin long before the one before it is done, if it goes to another sum.
_SUMS = ((0, 1), (2, 3))
_WEIGHTS, _HIGH, _LOW = 4, 5, 6
_ROWS_OF = {**dict.fromkeys(range(4), OUTPUTS), _WEIGHTS: OUTPUTS, _HIGH: TILE_ROWS, _LOW: TILE_ROWS}
TILE_SUMS = len(_SUMS) * 2 * OUTPUTS * TILE_ROWS


def _configuration() -> list[int]:
    """As ldtilecfg reads it: palette 1, bytes and rows of each register."""
    configuration = [1, *[0] * 63]
    for register, rows in _ROWS_OF.items():
        configuration[16 + 2 * register] = CELL
        configuration[48 + register] = rows
    return configuration


@intrinsic
def begin_tiles(typing: Any) -> Any:
    """Get this thread's matrix units ready for `tiles`."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if HAS_TILES:
            configuration = ir.Constant(ir.ArrayType(_BYTE, 64), [_BYTE(value) for value in _configuration()])
            place = builder.bitcast(cgutils.alloca_once_value(builder, configuration), _BYTE.as_pointer())
            _call(builder, "llvm.x86.ldtilecfg", ir.VoidType(), place)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def end_tiles(typing: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if HAS_TILES:
            _call(builder, "llvm.x86.tilerelease", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def tiles(typing: Any, weights: Any, digits: Any, cells: Any, sums: Any, ahead: Any) -> Any:
    """Digits of 16 rows times weights (8, 64 * cells) int8 to sums (2, 2, 8, 16) int32.

    `digits` are (2, cells, 16, 16, 4) int8, the high ones and the low ones: for each cell the digits of four inputs of
    all rows beside each other. The sums are of even and of odd cells, in each of high and of low digits.
    """
    signature = types.void(*[types.int64] * 5)

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if not HAS_TILES:
            return context.get_dummy_value()
        weights, digits, cells, sums, ahead = given
        nothing, line = ir.VoidType(), _LONG(CELL)
        low = builder.mul(cells, _LONG(TILE_ROWS * CELL))

        def pointer(address: Any, offset: Any) -> Any:
            return builder.inttoptr(builder.add(address, offset), _BYTE.as_pointer())

        def multiply(cell: Any, totals: tuple[int, int]) -> None:
            start, own = builder.mul(cell, _LONG(OUTPUTS * CELL)), builder.mul(cell, _LONG(TILE_ROWS * CELL))
            for offset in range(0, OUTPUTS * CELL, CELL):
                fetched = pointer(weights, builder.add(builder.add(start, ahead), _LONG(offset)))
                _call(builder, "llvm.prefetch.p0", nothing, fetched, _INT(0), _INT(2), _INT(1))
            loads = ((_WEIGHTS, weights, start), (_HIGH, digits, own), (_LOW, digits, builder.add(own, low)))
            for register, origin, place in loads:
                _call(builder, "llvm.x86.tileloadd64", nothing, _BYTE(register), pointer(origin, place), line)
            for total, factor in zip(totals, (_HIGH, _LOW), strict=True):
                _call(builder, "llvm.x86.tdpbssd", nothing, _BYTE(total), _BYTE(_WEIGHTS), _BYTE(factor))

        for total in (number for totals in _SUMS for number in totals):
            _call(builder, "llvm.x86.tilezero", nothing, _BYTE(total))
        with cgutils.for_range(builder, builder.lshr(cells, _LONG(1))) as loop:
            even = builder.shl(loop.index, _LONG(1))
            multiply(even, _SUMS[0])
            multiply(builder.add(even, _LONG(1)), _SUMS[1])
        with builder.if_then(builder.trunc(cells, ir.IntType(1))):
            multiply(builder.sub(cells, _LONG(1)), _SUMS[0])
        for number in range(4):
            place = pointer(sums, _LONG(number * OUTPUTS * CELL))
            _call(builder, "llvm.x86.tilestored64", nothing, _BYTE(number), place, line)
        return context.get_dummy_value()

    return signature, generate


def _weighted(width: int) -> Any:
    @intrinsic
    def weighted(typing: Any, like: Any, weights: Any, count: Any, vectors: Any, vector_bytes: Any, result: Any) -> Any:
        signature, arithmetic = types.void(like, *[types.int64] * 5), _Arithmetic(like.dtype)

        def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
            _, weights, count, vectors, vector_bytes, result = given
            kind = _vector(_FLOAT, LANES)
            sums = [cgutils.alloca_once(builder, kind) for _ in range(width // LANES)]
            for place in sums:
                builder.store(ir.Constant(kind, [0] * LANES), place)
            with cgutils.for_range(builder, count) as loop:
                place = builder.add(weights, builder.mul(loop.index, _LONG(4)))
                weight = builder.load(builder.inttoptr(place, _FLOAT.as_pointer()))
                single = builder.insert_element(ir.Constant(kind, ir.Undefined), weight, _INT(0))
                weight = _pick(builder, single, [0] * LANES)
                start = builder.mul(loop.index, vector_bytes)
                for number, place in enumerate(sums):
                    offset = builder.add(start, _LONG(arithmetic.weight_bytes * LANES * number))
                    values = arithmetic.weights(builder, vectors, offset)
                    added = _call(builder, f"llvm.fma.v{LANES}f32", kind, weight, values, builder.load(place))
                    builder.store(added, place)
            for number, place in enumerate(sums):
                target = builder.add(result, _LONG(4 * LANES * number))
                builder.store(builder.load(place), builder.inttoptr(target, kind.as_pointer()), align=4)
            return context.get_dummy_value()

        return signature, generate

    return weighted


# (like, weights, count, vectors, vector_bytes, result): the sum of `count` vectors of 64 or 16 numbers of the type of
# `like`, each times its weight. Weights and result are float32.
weighted_64 = _weighted(64)
weighted_16 = _weighted(16)


@intrinsic
def is_whole(typing: Any, like: Any) -> Any:
    """Whether inputs are whole numbers, as they are for weights of 8 bits: known when it is compiled."""
    answer = like.dtype == INT8
    return types.boolean(like), lambda context, builder, signature, given: context.get_constant(types.boolean, answer)


@intrinsic
def number_at(typing: Any, place: Any) -> Any:
    """The float32 at an address."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.load(builder.inttoptr(given[0], _FLOAT.as_pointer()))

    return types.float32(types.int64), generate


@intrinsic
def whole_at(typing: Any, place: Any) -> Any:
    """The int32 at an address."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.load(builder.inttoptr(given[0], _INT.as_pointer()))

    return types.int32(types.int64), generate


@intrinsic
def store_whole(typing: Any, place: Any, number: Any) -> Any:
    """An int32 to an address."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        place, number = given
        builder.store(number, builder.inttoptr(place, _INT.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int32), generate


@intrinsic
def fetch(typing: Any, place: Any) -> Any:
    """Have what is at an address come nearer, without waiting for it."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        pointer = builder.inttoptr(given[0], _BYTE.as_pointer())
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, _INT(0), _INT(3), _INT(1))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def store_as(typing: Any, like: Any, place: Any, number: Any) -> Any:
    """A float32 to an address, as float32 or as fp16."""
    halves = like.dtype == FLOAT16

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        _, place, number = given
        stored = builder.fptrunc(number, _HALF) if halves else number
        builder.store(stored, builder.inttoptr(place, stored.type.as_pointer()))
        return context.get_dummy_value()

    return types.void(like, types.int64, types.float32), generate


@intrinsic
def bits_as_float(typing: Any, bits: Any) -> Any:
    return types.float32(types.int32), lambda context, builder, signature, given: builder.bitcast(given[0], _FLOAT)


@intrinsic
def arrive(typing: Any, counter: Any) -> Any:
    """Add one to the int64 at an address, at once with all threads; what it was before."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(given[0], _LONG.as_pointer()), _LONG(1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def look(typing: Any, counter: Any) -> Any:
    """The int64 at an address, and all that was written before it."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(given[0], _LONG.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def rest(typing: Any) -> Any:
    """A moment in which the other thread of a core may go on."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if _IS_X86:
            _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), generate


# Lets another thread have the core.
step_aside = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())
