"""Rows of inputs times packed weights, by vectors; everything is given by address.

Sums go in an order that depends on nothing but the number of inputs, so a row's product is the same to the bit whatever
else is computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engines.chatterbox.t3.processor.vectors import (
    AHEAD,
    BFLOAT16,
    BYTE,
    CELL,
    FLOAT,
    FLOAT16,
    FLOAT32,
    HALF,
    HAS_DIGITS,
    HAS_PAIRS,
    INT,
    INT8,
    INT16,
    LANES,
    LONG,
    OUTPUTS,
    SHORT,
    at,
    call,
    fetch_line,
    first,
    fused,
    load,
    load_some,
    of_digits,
    pick,
    pointer,
    repeated,
    store,
    store_some,
    vector,
    zeros,
)

CELLS_IN_32_BITS = 8  # of 64 products of 15 bits and 8: 16319 * 255 * 512 is below 2**31
SETTLED = 16  # results at a time: so many of `worths` are read, even if there are fewer results


class _Arithmetic:
    """How weights of one kind are multiplied: `per` inputs at a time, into sums (LANES,) of type `sums`.

    Whole weights are kept as bytes 128 above what they are, and as 0 where there are none. Inputs are whole numbers
    then: in `digits`, high ones and low ones of 8 bits, if the processor multiplies those, else of 16 bits.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.is_whole = kind == INT8
        self.digits = 2 if self.is_whole and HAS_DIGITS else 1
        self.weight = {FLOAT32: FLOAT, FLOAT16: HALF, BFLOAT16: SHORT, INT16: SHORT, INT8: BYTE}[kind]
        self.weight_bytes = {FLOAT32: 4, INT8: 1}.get(kind, 2)
        self.input = (BYTE if self.digits == 2 else SHORT) if self.is_whole else FLOAT
        self.input_bytes = (1 if self.digits == 2 else 2) if self.is_whole else 4
        self.rows = 2 if self.digits == 2 else 4  # at most, so that all sums are in registers
        self.per = LANES * 4 // self.input_bytes
        self.vectors = CELL // (self.per * self.weight_bytes)  # of a cell
        self.sums = vector(INT if self.is_whole else FLOAT, LANES)

    def weights(self, builder: Any, address: Any) -> Any:
        loaded = load(builder, address, self.weight, self.per)
        if self.kind == INT8:
            return loaded if self.digits == 2 else builder.zext(loaded, vector(SHORT, self.per))
        if self.kind == INT16:
            return builder.sitofp(builder.sext(loaded, vector(INT, self.per)), vector(FLOAT, self.per))
        if self.kind == FLOAT16:
            return builder.fpext(loaded, vector(FLOAT, self.per))
        if self.kind == BFLOAT16:
            wide = builder.zext(loaded, vector(INT, self.per))
            sixteen = ir.Constant(wide.type, [16] * self.per)
            return builder.bitcast(builder.shl(wide, sixteen), vector(FLOAT, self.per))
        return loaded

    def inputs(self, builder: Any, address: Any) -> Any:
        return load(builder, address, self.input, self.per)

    def add(self, builder: Any, sums: Any, inputs: Any, weights: Any) -> Any:
        if not self.is_whole:
            return fused(builder, inputs, weights, sums)
        if self.digits == 2:
            factors = (builder.bitcast(one, self.sums) for one in (weights, inputs))
            return call(builder, "llvm.x86.avx512.vpdpbusd.512", self.sums, sums, *factors)
        if HAS_PAIRS:
            name = "llvm.x86.avx512.pmaddw.d.512" if LANES == 16 else "llvm.x86.avx2.pmadd.wd"
            return builder.add(sums, call(builder, name, self.sums, inputs, weights))
        for start in (0, 1):
            lanes = range(start, self.per, 2)
            factors = (builder.sext(pick(builder, one, lanes), self.sums) for one in (inputs, weights))
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
                low = pick(builder, one, starts, other)
                high = pick(builder, one, [start + group // 2 for start in starts], other)
                folded.append(builder.add(low, high) if self.is_whole else builder.fadd(low, high))
            sums, group = folded, group // 2
        return sums


class _Block:
    """Code for rows of inputs times vectors of weights, given by the addresses where they begin.

    Of a row's inputs those that are multiplied next are `width` bytes further on. The cells of a vector are
    `cell_bytes` apart, those of the next vector `step` bytes behind its own.
    """

    def __init__(
        self,
        arithmetic: _Arithmetic,
        builder: Any,
        rows: list[Any],
        width: int,
        vectors: int,
        step: Any,
        cell_bytes: Any,
    ) -> None:
        self._arithmetic, self._builder, self._rows, self._vectors = arithmetic, builder, rows, vectors
        self._width = width
        self._step, self._cell_bytes = step, cell_bytes
        self._sums = [cgutils.alloca_once(builder, arithmetic.sums) for _ in range(len(rows) * vectors)]

    def totals(self, weights: Any, start: Any, cells: Any, *, fetches: bool = False) -> list[Any]:
        """The totals of so many cells from `start` on: of the first row for each vector, then of the second."""
        builder = self._builder
        for place in self._sums:
            builder.store(zeros(self._arithmetic.sums), place)
        with cgutils.for_range(builder, cells) as loop:
            self._add(weights, builder.add(start, loop.index), fetches)
        return self._arithmetic.totals(builder, [builder.load(place) for place in self._sums])

    def _add(self, weights: Any, number: Any, fetches: bool) -> None:
        builder, arithmetic = self._builder, self._arithmetic
        cell = at(builder, weights, self._cell_bytes, number)
        for part in range(arithmetic.vectors):
            index = builder.add(builder.mul(number, LONG(arithmetic.vectors)), LONG(part))
            columns = [arithmetic.inputs(builder, at(builder, row, self._width, index)) for row in self._rows]
            for vector_number in range(self._vectors):
                line = at(builder, cell, self._step, vector_number)
                factor = arithmetic.weights(builder, at(builder, line, arithmetic.per * arithmetic.weight_bytes, part))
                if fetches and part == 0:
                    fetch_line(builder, builder.add(line, LONG(AHEAD)))
                for row, column in enumerate(columns):
                    place = self._sums[row * self._vectors + vector_number]
                    builder.store(arithmetic.add(builder, builder.load(place), column, factor), place)


def _of_parts(builder: Any, cells: Any, totals: Callable[[Any, Any], list[Any]], offset: Any) -> Any:
    """What `totals(start, cells)` gives, int32, for all cells together, less 128 times the offset, as float32.

    So many cells go together that their sums cannot overflow.
    """
    lanes = min(LANES, offset.type.count)
    wide, every = vector(LONG, lanes), vector(LONG, offset.type.count)
    places = [cgutils.alloca_once(builder, wide) for _ in range(every.count // lanes)]
    for place in places:
        builder.store(zeros(wide), place)
    part = LONG(CELLS_IN_32_BITS)
    parts = builder.udiv(builder.add(cells, builder.sub(part, LONG(1))), part)
    with cgutils.for_range(builder, parts) as loop:
        start = builder.mul(loop.index, part)
        left = builder.sub(cells, start)
        some = builder.select(builder.icmp_signed("<", left, part), left, part)
        for place, total in zip(places, totals(start, some), strict=True):
            builder.store(builder.add(builder.load(place), builder.sext(total, wide)), place)
    whole = [builder.load(place) for place in places]
    exact = whole[0] if len(whole) == 1 else pick(builder, whole[0], range(every.count), whole[1])
    offset = builder.shl(builder.sext(offset, every), ir.Constant(every, [7] * every.count))
    return builder.sitofp(builder.sub(exact, offset), vector(FLOAT, every.count))


def _lanes(builder: Any, vectors: list[Any], start: int, count: int) -> Any:
    number, lane = divmod(start, vectors[0].type.count)
    return pick(builder, vectors[number], range(lane, lane + count))


def _products(rows: int) -> Any:
    @intrinsic
    def products(
        typing: Any,
        like: Any,
        inputs: Any,
        row_bytes: Any,
        weights: Any,
        cells: Any,
        blocks: Any,
        fetches: Any,
        offsets: Any,
        results: Any,
    ) -> Any:
        arithmetic = _Arithmetic(like.dtype)
        signature = types.void(like, *[types.int64] * 5, types.boolean, *[types.int64] * 2)
        count = rows * OUTPUTS

        def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
            if rows > arithmetic.rows:
                return context.get_dummy_value()  # nobody asks for it
            _, inputs, row_bytes, weights, cells, blocks, fetches, offsets, results = given
            width = arithmetic.per * arithmetic.input_bytes
            if arithmetic.digits == 2:
                pairs = [(digit, row) for digit in (0, 1) for row in range(rows)]
                places = [at(builder, inputs, CELL, 2 * row + digit) for digit, row in pairs]
                width = 4 * CELL
            else:
                places = [at(builder, inputs, row_bytes, row) for row in range(rows)]
            block = _Block(arithmetic, builder, places, width, OUTPUTS, CELL, OUTPUTS * CELL)
            own = [builder.load(pointer(builder, at(builder, offsets, 4, row), INT)) for row in range(rows)]
            offset = ir.Constant(vector(INT, count), ir.Undefined)
            for lane in range(count):
                offset = builder.insert_element(offset, own[lane // OUTPUTS], INT(lane))

            def of_block(here: Any, target: Any, *, fetches: bool) -> None:
                if arithmetic.digits == 2:
                    both = block.totals(here, LONG(0), cells, fetches=fetches)
                    high, low = (_lanes(builder, both, digit * count, count) for digit in (0, 1))
                    floats = [of_digits(builder, high, low, offset)]
                elif arithmetic.is_whole:
                    floats = [
                        _of_parts(builder, cells, lambda *some: block.totals(here, *some, fetches=fetches), offset)
                    ]
                else:
                    floats = block.totals(here, LONG(0), cells, fetches=fetches)
                for number, some in enumerate(floats):
                    store(builder, some, at(builder, target, 4 * some.type.count, number))

            def all_blocks(*, fetches: bool) -> None:
                with cgutils.for_range(builder, blocks) as loop:
                    size = builder.mul(cells, LONG(OUTPUTS * CELL))
                    here = at(builder, weights, size, loop.index)
                    of_block(here, at(builder, results, 4 * count, loop.index), fetches=fetches)

            with builder.if_else(fetches) as (yes, no):
                with yes:
                    all_blocks(fetches=True)
                with no:
                    all_blocks(fetches=False)
            return context.get_dummy_value()

        return signature, generate

    return products


# (like, inputs, row_bytes, weights, cells, blocks, fetches, offsets, results): rows of inputs, each `row_bytes` after
# the other, times so many blocks of weights to results (blocks, rows, 4), float32. `like` is an array of the weights'
# type. Inputs are float32; for weights of 8 bits they are whole numbers, int16 or digits, and 128 times the `offsets`
# (int32) of the rows is taken away from what comes. Digits are of two rows, of which the second may be nobody's: for
# each cell high ones and low ones of the first, then of the second. Two streams, weights and inputs, are what the
# processor foresees best: with four of inputs, it was a fifth slower in some surroundings.
products_of_1, products_of_2, products_of_4 = (_products(rows) for rows in (1, 2, 4))


@intrinsic
def settle(
    typing: Any,
    products: Any,
    beside: Any,
    rows: Any,
    scales: Any,
    worths: Any,
    biases: Any,
    count: Any,
    adds: Any,
    results: Any,
    result_bytes: Any,
) -> Any:
    """Products (any, `beside`, 4) of some rows to the first `count` results of each of the first `rows`.

    A product is worth `scales` of its row times `worths` of its output, and its bias is added, unless `biases` is 0.
    If it `adds`, results that are there already are added too. Everything is float32.
    """
    signature = types.void(*[types.int64] * 7, types.boolean, *[types.int64] * 2)

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        products, beside, rows, scales, worths, biases, count, adds, results, result_bytes = given
        block_bytes = builder.mul(beside, LONG(4 * OUTPUTS))
        has_biases = builder.icmp_signed("!=", biases, LONG(0))
        steps = builder.sdiv(builder.add(count, LONG(SETTLED - 1)), LONG(SETTLED))
        with cgutils.for_range(builder, steps) as loop:
            start = builder.mul(loop.index, LONG(SETTLED))
            left = builder.sub(count, start)
            which = first(builder, left, SETTLED)
            added = first(builder, builder.select(adds, left, LONG(0)), SETTLED)
            biased = first(builder, builder.select(has_biases, left, LONG(0)), SETTLED)
            # where there are none, from somewhere else: that a load of nothing may go anywhere costs processors a lot
            there = builder.select(has_biases, biases, worths)
            own_biases = load_some(builder, at(builder, there, 4, start), biased)
            own_worths = load(builder, at(builder, worths, 4, start), FLOAT, SETTLED)
            blocks = at(builder, products, block_bytes, builder.mul(loop.index, LONG(SETTLED // OUTPUTS)))
            with cgutils.for_range(builder, rows) as row:
                own = at(builder, blocks, 4 * OUTPUTS, row.index)
                parts = [
                    load(builder, at(builder, own, block_bytes, number), FLOAT, OUTPUTS)
                    for number in range(SETTLED // OUTPUTS)
                ]
                while len(parts) > 1:
                    lanes = range(2 * parts[0].type.count)
                    parts = [
                        pick(builder, one, lanes, other) for one, other in zip(parts[::2], parts[1::2], strict=True)
                    ]
                scale = builder.load(pointer(builder, at(builder, scales, 4, row.index), FLOAT))
                product = builder.fmul(parts[0], builder.fmul(repeated(builder, scale, SETTLED), own_worths))
                target = at(builder, at(builder, results, result_bytes, row.index), 4, start)
                product = builder.fadd(builder.fadd(product, own_biases), load_some(builder, target, added))
                store_some(builder, product, target, which)
        return context.get_dummy_value()

    return signature, generate


DOTS = 8  # vectors that `dots` takes


@intrinsic
def dots(typing: Any, like: Any, inputs: Any, vectors: Any, step: Any, results: Any) -> Any:
    """Float32 `inputs` times 8 vectors of the type of `like`, each `step` bytes long, to float32 results (8,)."""
    arithmetic, signature = _Arithmetic(like.dtype), types.void(like, *[types.int64] * 4)

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        _, inputs, vectors, step, results = given
        width = arithmetic.per * arithmetic.input_bytes
        block = _Block(arithmetic, builder, [inputs], width, DOTS, step, CELL)
        (totals,) = block.totals(vectors, LONG(0), builder.udiv(step, LONG(CELL)))
        store(builder, totals, results)
        return context.get_dummy_value()

    return signature, generate


def _weighted(width: int) -> Any:
    @intrinsic
    def weighted(
        typing: Any, like: Any, weights: Any, count: Any, vectors: Any, step: Any, wanted: Any, result: Any
    ) -> Any:
        signature, arithmetic = types.void(like, *[types.int64] * 6), _Arithmetic(like.dtype)

        def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
            _, weights, count, vectors, step, wanted, result = given
            kind = vector(FLOAT, LANES)
            sums = [cgutils.alloca_once(builder, kind) for _ in range(width // LANES)]
            for place in sums:
                builder.store(zeros(kind), place)
            end = at(builder, vectors, step, count)
            with cgutils.for_range(builder, count) as loop:
                weight = builder.load(pointer(builder, at(builder, weights, 4, loop.index), FLOAT))
                own = at(builder, vectors, step, loop.index)
                ahead = builder.add(own, LONG(AHEAD))
                behind = builder.add(wanted, builder.sub(ahead, end))
                fetched = builder.select(builder.icmp_signed("<", ahead, end), ahead, behind)
                for number in range(width * arithmetic.weight_bytes // CELL):
                    fetch_line(builder, builder.add(fetched, LONG(number * CELL)))
                for number, place in enumerate(sums):
                    values = arithmetic.weights(builder, at(builder, own, arithmetic.weight_bytes * LANES, number))
                    spread = repeated(builder, weight, LANES)
                    builder.store(fused(builder, spread, values, builder.load(place)), place)
            for number, place in enumerate(sums):
                store(builder, builder.load(place), at(builder, result, 4 * LANES, number))
            return context.get_dummy_value()

        return signature, generate

    return weighted


# (like, weights, count, vectors, step, wanted, result): the sum of `count` vectors of 64 or 16 numbers of the type of
# `like`, `step` bytes from one to the next, each times its weight. Weights and result are float32. What comes after the
# last vector is fetched from `wanted` on.
weighted_64 = _weighted(64)
weighted_16 = _weighted(16)


@intrinsic
def copy_as(typing: Any, like: Any, numbers: Any, count: Any, copies: Any) -> Any:
    """A multiple of 16 float32 to the type of `like`, float32 or fp16."""
    signature, halves = types.void(like, *[types.int64] * 3), like.dtype == FLOAT16

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        _, numbers, count, copies = given
        with cgutils.for_range(builder, builder.udiv(count, LONG(16))) as loop:
            some = load(builder, at(builder, numbers, 64, loop.index), FLOAT, 16)
            some = builder.fptrunc(some, vector(HALF, 16)) if halves else some
            store(builder, some, at(builder, copies, 32 if halves else 64, loop.index))
        return context.get_dummy_value()

    return signature, generate
