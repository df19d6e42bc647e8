"""Weights from their files into modules, fast, and with a sentence on what is wrong where they do not fit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resilience.errors import ModelUnavailable

# How upstream's constructors fill a weight with random numbers: methods of Tensor, functions of torch.nn.init, and the
# latter's double in transformers.
RANDOM_FILLS = frozenset(
    "normal_ uniform_ trunc_normal_ orthogonal_ kaiming_normal_ kaiming_uniform_ xavier_normal_ xavier_uniform_".split()
)


class Unfilled(TorchFunctionMode):  # type: ignore[misc]
    """Modules made within it keep arbitrary numbers where random ones would be, until `fill` gives them their weights.

    Filling the half a milliard weights of T3 with random numbers takes seconds. Buffers, which are computed, are right.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(function, "__name__", None) in RANDOM_FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a .safetensors or .pt file, on the CPU; of a .pt file, plain values only (no code is run).

    Raises ModelUnavailable, naming the file, if it is missing or damaged.
    """
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelUnavailable(f"the file {path} is missing") from error
    except OSError as error:
        raise ModelUnavailable(f"the file {path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise ModelUnavailable(
            f"the file {path} is damaged or was not downloaded whole; please delete it and fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise ModelUnavailable(f"the file {path} holds no named tensors")
    return content


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    path: Path,
    computed: Collection[str] = (),
    is_strict: bool = True,
) -> None:
    """Give the module its weights, in its own precision. `computed` names buffers that the file need not have.

    Raises ModelUnavailable, naming the file, if a weight is missing or of another shape; also for one that the module
    has no place for, if `is_strict`.
    """
    try:
        found = module.load_state_dict(tensors, strict=False)
    except (RuntimeError, TypeError) as error:  # sizes that differ; names that are no names
        raise ModelUnavailable(f"the file {path} is of another model: its tensors have other shapes") from error
    missing = [name for name in found.missing_keys if name not in computed]
    if missing:
        raise ModelUnavailable(f"the file {path} lacks {len(missing)} of the model's tensors, such as {missing[0]}")
    if is_strict and found.unexpected_keys:
        raise ModelUnavailable(
            f"the file {path} is of another model: it has tensors that this one has not, "
            f"such as {found.unexpected_keys[0]}"
        )
