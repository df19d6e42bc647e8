"""What compiled code is made of where numba has no words for it: vectors, and what this processor can do with them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features

CELL = 64  # bytes of weights of one output that are multiplied at a time
OUTPUTS = 4  # whose cells lie beside each other
GROUP = 16  # blocks of so many outputs that matrix units multiply together
TILE_ROWS = 16  # of inputs that go with them
AHEAD = 4096  # bytes: how far ahead weights are fetched


def _features() -> set[str]:
    """What numba's code may use: what this processor has, unless it was told otherwise."""
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return {name[1:] for name in features.split(",") if name.startswith("+")}


_FEATURES = _features()
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
LANES = 16 if {"avx512f", "avx512bw"} <= _FEATURES else 8  # floats of a vector
# Whether the processor itself takes fp16 for float32 and back.
HAS_HALVES = not IS_X86 or "f16c" in _FEATURES
# Whether it multiplies bytes, and adds four products at once.
HAS_DIGITS = LANES == 16 and "avx512vnni" in _FEATURES
# Intel's matrix units, where the processor has them and the system lets them be used.
HAS_TILES = HAS_DIGITS and "amx-int8" in _FEATURES and bool(torch.cpu._init_amx())
HAS_PAIRS = LANES == 16 or "avx2" in _FEATURES  # products of 16 bits, added in pairs
FOUND = (LANES, HAS_HALVES, HAS_DIGITS, HAS_TILES, HAS_PAIRS)  # on which compiled code depends

FLOAT, HALF = ir.FloatType(), ir.HalfType()
BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))

# Kinds of weights, each by a type that stands for it: the compiler tells functions apart by the types of what they are
# given, and numba knows not all of these kinds.
FLOAT32, FLOAT16, BFLOAT16, INT16, INT8 = types.float32, types.uint16, types.uint32, types.int16, types.int8


def vector(element: ir.Type, count: int) -> ir.Type:
    return ir.VectorType(element, count)


def zeros(kind: ir.Type) -> ir.Constant:
    return ir.Constant(kind, [0] * kind.count)


def pointer(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def at(builder: Any, address: Any, step: int | Any, number: int | Any) -> Any:
    """The address `number` steps further on."""
    step, number = (value if isinstance(value, ir.Value) else LONG(value) for value in (step, number))
    return builder.add(address, builder.mul(step, number))


def load(builder: Any, address: Any, element: ir.Type, count: int) -> Any:
    return builder.load(pointer(builder, address, vector(element, count)), align=1)


def store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, pointer(builder, address, value.type), align=1)


def call(builder: Any, name: str, result: ir.Type, *arguments: Any) -> Any:
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def pick(builder: Any, one: Any, lanes: Sequence[int], other: Any = None) -> Any:
    """Lanes of a vector, and of another behind it."""
    other = ir.Constant(one.type, ir.Undefined) if other is None else other
    return builder.shuffle_vector(one, other, ir.Constant(vector(INT, len(lanes)), list(lanes)))


def repeated(builder: Any, number: Any, count: int) -> Any:
    single = builder.insert_element(ir.Constant(vector(number.type, count), ir.Undefined), number, INT(0))
    return pick(builder, single, [0] * count)


def first(builder: Any, count: Any, lanes: int) -> Any:
    """Whether a lane is among the first `count` (int64)."""
    numbers = ir.Constant(vector(LONG, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, repeated(builder, count, lanes))


def fused(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """one * other + added, rounded once."""
    return call(builder, f"llvm.fma.v{one.type.count}f32", one.type, one, other, added)


def of_digits(builder: Any, high: Any, low: Any, offset: Any) -> Any:
    """Sums of whole numbers, float32, from those of their digits, less 128 times the offset: all int32 vectors."""
    kind = vector(FLOAT, high.type.count)
    worth = ir.Constant(kind, [128.0] * kind.count)
    return fused(builder, builder.sitofp(builder.sub(high, offset), kind), worth, builder.sitofp(low, kind))


def load_some(builder: Any, address: Any, which: Any) -> Any:
    """Float32 from memory, and 0 where none is wanted."""
    kind = vector(FLOAT, which.type.count)
    name = f"llvm.masked.load.v{kind.count}f32.p0v{kind.count}f32"
    return call(builder, name, kind, pointer(builder, address, kind), INT(4), which, zeros(kind))


def store_some(builder: Any, value: Any, address: Any, which: Any) -> None:
    kind = value.type
    name = f"llvm.masked.store.v{kind.count}f32.p0v{kind.count}f32"
    call(builder, name, ir.VoidType(), value, pointer(builder, address, kind), INT(4), which)


def fetch_line(builder: Any, address: Any) -> None:
    """Have what is at an address come nearer, without waiting for it: not so near that what is in use would go."""
    call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer(builder, address, BYTE), INT(0), INT(2), INT(1))


def turned(builder: Any, vectors: list[Any]) -> list[Any]:
    """As many numbers in as many vectors: the first of each, then the second of each, and so on."""
    lanes, left = vectors[0].type.count, len(vectors)
    low = [lane + start for lane in range(lanes // 2) for start in (0, lanes)]
    high = [lane + lanes // 2 for lane in low]
    while left > 1:
        half = len(vectors) // 2
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [pick(builder, one, order, other) for one, other in pairs for order in (low, high)]
        left //= 2
    return vectors
