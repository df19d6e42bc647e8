"""The attention of a step as one kernel on NVIDIA's devices (`attend.cu`), compiled when a model is loaded.

It takes the place of some ten operations a layer, and reads no more of a row than the row knows, so that a step is one
and the same whoever is in it. The compiler (NVRTC) and its binding come with torch; a user needs no CUDA toolkit.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engines.chatterbox.recording import exclusive

if TYPE_CHECKING:
    from torch import Tensor

    from engines.chatterbox.t3.backbone import Rotary, Shape
    from engines.chatterbox.t3.kv_cache import KVCache

SOURCE = Path(__file__).with_name("attend.cu")
THREADS = 256
ARGUMENTS = (*[ctypes.c_void_p] * 5, ctypes.c_int, ctypes.c_void_p)


class KernelUnavailable(Exception):
    """Why there can be no kernel: no NVIDIA device, no compiler beside torch, or a shape that it is not made for."""


class AttendKernel:
    """One new token in every row of a cache, as `attend.cu` describes it. Raises KernelUnavailable."""

    def __init__(self, shape: Shape, dtype: torch.dtype, rotary: Rotary | None, device: torch.device) -> None:
        lanes = shape.head_dim / 8
        if lanes not in (1, 2, 4, 8, 16, 32):
            raise KernelUnavailable(f"heads of {shape.head_dim} channels")
        self._shape = shape
        self._rotary = rotary
        defined = {
            "HEAD_DIM": shape.head_dim,
            "SCALAR_BITS": torch.finfo(dtype).bits,
            "IS_BFLOAT16": int(dtype == torch.bfloat16),
            "IS_ROTARY": int(rotary is not None),
        }
        major, minor = torch.cuda.get_device_capability(device)
        self._function = _loaded(compiled(f"sm_{major}{minor}", **defined), device)

    @staticmethod
    def describe(cache: KVCache) -> list[int]:
        """Where the cache is, as a call wants to know it."""
        return [cache.keys.data_ptr(), cache.values.data_ptr(), cache.keys.shape[1], cache.room]

    def __call__(self, layer: int, qkv: Tensor, positions: Tensor, store: Tensor) -> Tensor:
        """qkv (rows, 3, heads, head_dim), positions (rows,) int64, -1 for an idle row, to (rows, heads * head_dim).

        `store` (4,) int64 holds what `describe` says, on the device.
        """
        from cuda.bindings import driver

        rows, qkv = len(qkv), qkv.contiguous()
        attended = qkv.new_empty(rows, self._shape.heads * self._shape.head_dim)
        tables = (0, 0) if self._rotary is None else (self._rotary.cos.data_ptr(), self._rotary.sin.data_ptr())
        pointers = (qkv.data_ptr(), *tables, positions.data_ptr(), store.data_ptr())
        values = (*pointers, layer, attended.data_ptr())
        grid, block = (self._shape.heads, rows, 1), (THREADS, 1, 1)
        stream = torch.cuda.current_stream(qkv.device).cuda_stream
        _done(driver.cuLaunchKernel(self._function, *grid, *block, 0, stream, (values, ARGUMENTS), 0))
        return attended


@cache
def compiled(architecture: str, **defined: int) -> bytes:
    """The machine code of `attend.cu` for an architecture ("sm_90"), be it here or not. Raises KernelUnavailable."""
    try:
        from cuda.bindings import nvrtc

        program = _done(nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], []))
    except (ImportError, RuntimeError) as error:  # no bindings, or no library that they find
        raise KernelUnavailable(f"no compiler beside torch ({error})") from error
    options = [f"--gpu-architecture={architecture}", *(f"-D{name}={value}" for name, value in defined.items())]
    try:
        _done(nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options]))
        code = bytes(_done(nvrtc.nvrtcGetCUBINSize(program)))
        _done(nvrtc.nvrtcGetCUBIN(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return code


def _loaded(code: bytes, device: torch.device) -> Any:
    """The function on the device."""
    from cuda.bindings import driver

    with exclusive, torch.cuda.device(device):
        torch.zeros(1, device=device)  # makes the device's context this thread's
        module = _done(driver.cuModuleLoadData(code))
        return _done(driver.cuModuleGetFunction(module, b"attend"))


def _done(result: tuple[Any, ...]) -> Any:
    """What a call of the bindings gave beside its status. Raises KernelUnavailable for a status that is no success."""
    status, *values = result
    if int(status):
        raise KernelUnavailable(f"{type(status).__name__} {status.name}")
    return values[0] if values else None
