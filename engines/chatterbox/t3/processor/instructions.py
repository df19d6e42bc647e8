"""Single instructions that numba has no words for: on what lies at an address, and how threads wait for one another."""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from engines.chatterbox.t3.processor.vectors import (
    FLOAT,
    INT,
    INT8,
    IS_X86,
    LONG,
    call,
    fetch_line,
    pointer,
)


@intrinsic
def is_whole(typing: Any, like: Any) -> Any:
    """Whether inputs are whole numbers, as they are for weights of 8 bits: known when it is compiled."""
    answer = like.dtype == INT8
    return types.boolean(like), lambda context, builder, signature, given: context.get_constant(types.boolean, answer)


@intrinsic
def number_at(typing: Any, place: Any) -> Any:
    """The float32 at an address."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.load(pointer(builder, given[0], FLOAT))

    return types.float32(types.int64), generate


@intrinsic
def copy_four(typing: Any, bytes_: Any, copies: Any) -> Any:
    """Four bytes from one address to another."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        source, target = (pointer(builder, place, INT) for place in given)
        builder.store(builder.load(source, align=1), target, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def fetch(typing: Any, place: Any) -> Any:
    """Have what is at an address come nearer, without waiting for it."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        fetch_line(builder, given[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def bits_as_float(typing: Any, bits: Any) -> Any:
    return types.float32(types.int32), lambda context, builder, signature, given: builder.bitcast(given[0], FLOAT)


@intrinsic
def float_as_bits(typing: Any, number: Any) -> Any:
    return types.int32(types.float32), lambda context, builder, signature, given: builder.bitcast(given[0], INT)


@intrinsic
def arrive(typing: Any, counter: Any) -> Any:
    """Add one to the int64 at an address, at once with all threads; what it was before."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.atomic_rmw("add", pointer(builder, given[0], LONG), LONG(1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def look(typing: Any, counter: Any) -> Any:
    """The int64 at an address, and all that was written before it."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.load_atomic(pointer(builder, given[0], LONG), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def rest(typing: Any) -> Any:
    """A moment in which the other thread of a core may go on."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        if IS_X86:
            call(builder, "llvm.x86.sse2.pause", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), generate


# Lets another thread have the core.
step_aside = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())
