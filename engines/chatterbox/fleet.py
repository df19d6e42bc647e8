"""The variants in memory: loaded when they are asked for, shared where they are the same, gone when nobody asks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, cast

import torch

from engines.base import LoadProgress
from engines.chatterbox.device import has_bfloat16
from engines.chatterbox.files import hub
from engines.chatterbox.files.weights import Located, Source, locate
from engines.chatterbox.loading.modules import load_modules
from engines.chatterbox.loading.text import TextReader
from engines.chatterbox.options import ChatterboxOptions
from engines.chatterbox.s3gen.estimator import Precision as RenderPrecision
from engines.chatterbox.s3gen.rendering import Renderer
from engines.chatterbox.t3.decoding import Decoder
from engines.chatterbox.t3.linear import Precision
from engines.chatterbox.variants import VARIANTS, Variant, edition
from engines.chatterbox.voice import PreparedVoice
from engines.chatterbox.warm_up import warm_up
from resilience.errors import ModelUnavailable

logger = logging.getLogger(__name__)

BYTES_OF_FLOAT32 = 4
BYTES_OF = {"fp16": 2, "bf16": 2, "int8": 1}


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A variant that can speak. `s3gen` and `voice_encoder` are upstream's modules, for preparing voices."""

    variant: Variant
    revision: str
    device: torch.device
    decoder: Decoder
    renderer: Renderer
    reader: TextReader
    s3gen: Any
    voice_encoder: Any
    own_voice: PreparedVoice | None
    t3_bytes: int
    s3gen_bytes: int
    used_at: float


class Fleet:
    """Finds, loads and lets go of variants. One thread asks; loading is done in a thread of its own."""

    def __init__(self, options: ChatterboxOptions, device: torch.device, batch: int) -> None:
        self._options = options
        self._source = Source.of(options)
        self._device = device
        self._batch = batch
        self._models: Mapping[str, LoadedModel] = {}
        self.problems: Mapping[str, str] = {}  # of those that could not be loaded the last time; only ever replaced
        self._under_way: dict[str, Future[LoadedModel]] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")

    @property
    def models(self) -> Mapping[str, LoadedModel]:
        """Those in memory by name, for any thread: never changed, only replaced."""
        return self._models

    def default(self) -> Variant:
        """The variant that the settings name; for `auto` the best one for the device among those that are here."""
        if self._options.model != "auto":
            return VARIANTS[self._options.model]
        names = ("nano", "turbo", "english", "multilingual")
        if self._device.type != "cpu":
            names = ("turbo", "english", "multilingual", "nano")
        here = [name for name in names if isinstance(locate(VARIANTS[name], self._source), Located)]
        if here and here[0] != names[0]:
            logger.info("model auto=%s because=%s is not on this machine", here[0], names[0])
        return VARIANTS[here[0] if here else names[0]]

    def has_own_voice(self, variant: Variant) -> bool:
        """True unless its files are here without one; what the hub has comes with one."""
        found = locate(variant, self._source)
        return not isinstance(found, Located) or variant.own_voice_file in found.files

    def load(self, name: str, on_progress: Callable[[LoadProgress], None]) -> LoadedModel:
        """The variant, from its files, fetched if need be. Waits. Raises ModelUnavailable."""
        self.begin(name, on_progress)
        wait(self._under_way.values())
        if error := self.settle().get(name):
            raise error
        return self._models[name]

    def get(self, name: str) -> LoadedModel | None:
        """The variant if it is in memory."""
        if model := self._models.get(name):
            model.used_at = time.monotonic()
        return self._models.get(name)

    def begin(self, name: str, on_progress: Callable[[LoadProgress], None], needed: Collection[str] = ()) -> None:
        """Load a variant in the loader's thread, unless that has begun; `settle` tells when it is done.

        If there is a limit to memory, others that are not needed leave for it.
        """
        if name not in self._under_way:
            self.tidy(needed, to_come=self._size_of(VARIANTS[name]))
            self._under_way[name] = self._loader.submit(self._load, VARIANTS[name], on_progress)

    def settle(self) -> Mapping[str, ModelUnavailable]:
        """Take in what has been loaded since the last call; the failures by name, which are not kept."""
        failures: dict[str, ModelUnavailable] = {}
        for name, under_way in [*self._under_way.items()]:
            if under_way.done():
                del self._under_way[name]
                try:
                    self._models = {**self._models, name: under_way.result()}
                except ModelUnavailable as error:
                    failures[name] = error
                others = {other: problem for other, problem in self.problems.items() if other != name}
                self.problems = {**others, **({name: failures[name].message} if name in failures else {})}
        return failures

    def tidy(self, needed: Collection[str], to_come: int = 0) -> None:
        """Let go of variants that are not needed: idle for `unload_after_s`, or more than `memory_limit_mb` holds.

        `to_come` are the bytes of weights that are about to be loaded.
        """
        idle = sorted(
            (model for name, model in self._models.items() if name not in needed and not model.decoder.active),
            key=lambda model: model.used_at,
        )
        before = time.monotonic() - self._options.unload_after_s
        limit = self._options.memory_limit_mb * 1_000_000
        for model in idle:
            if model.used_at < before or (limit and self.weights_bytes + to_come > limit):
                self._unload(model.variant.name)

    @property
    def weights_bytes(self) -> int:
        """The memory that weights take, an S3Gen that several variants share counted once."""
        renderers = {id(model.renderer): model.s3gen_bytes for model in self._models.values()}
        return sum(renderers.values()) + sum(model.t3_bytes for model in self._models.values())

    def _size_of(self, variant: Variant) -> int:
        """The bytes of its weights as they lie on the disk; 0 if they are not here yet."""
        found = locate(variant, self._source)
        return sum(path.stat().st_size for path in found.files.values()) if isinstance(found, Located) else 0

    def _unload(self, name: str) -> None:
        self._models = {other: model for other, model in self._models.items() if other != name}
        logger.info("model unloaded name=%s", name)

    def _load(self, variant: Variant, on_progress: Callable[[LoadProgress], None]) -> LoadedModel:
        """Raises ModelUnavailable, whatever goes wrong: a variant that cannot be loaded must not end the process."""
        try:
            return self._loaded(variant, on_progress)
        except ModelUnavailable:
            raise
        except ValueError as error:  # settings that do not go together: the sentence says which
            raise ModelUnavailable(f"{variant.name} cannot be loaded: {error}", retry_after_s=10) from error
        except Exception as error:
            logger.exception("model not loaded name=%s", variant.name)
            said = f"{variant.name} cannot be loaded ({type(error).__name__}); the log tells more"
            raise ModelUnavailable(said, retry_after_s=10) from error

    def _loaded(self, variant: Variant, on_progress: Callable[[LoadProgress], None]) -> LoadedModel:
        started_at = time.monotonic()
        found = locate(variant, self._source)
        if not isinstance(found, Located):
            if not found.can_download:
                raise ModelUnavailable(f"{variant.name} cannot be loaded: {found.why}", retry_after_s=10)
            found = hub.download(variant, self._source, on_progress, check=lambda: None)
        variant = edition(variant, found.files)
        on_progress(LoadProgress(f"loading {variant.name}"))
        modules = load_modules(variant, found.files, self._device)
        t3_bytes, s3gen_bytes = _bytes_of(modules.t3), _bytes_of(modules.s3gen)
        s3gen, renderer = self._shared(modules.s3gen)
        asked = self._options.t3_precision
        precision = default_precision(self._device) if asked == "auto" else cast(Precision, asked)
        decoder = Decoder(modules.t3, variant, precision, self._device, self._batch, records=self._options.cuda_graphs)
        if self._device.type == "cuda":
            warm_up(variant, decoder, renderer if s3gen is modules.s3gen else None)
        took_s = time.monotonic() - started_at
        logger.info("model loaded name=%s revision=%s took_s=%.1f", variant.name, found.revision, took_s)
        return LoadedModel(
            variant=variant,
            revision=found.revision,
            device=self._device,
            decoder=decoder,
            renderer=renderer,
            reader=TextReader(variant, modules.tokenizer),
            s3gen=s3gen,
            voice_encoder=modules.voice_encoder,
            own_voice=modules.own_voice,
            t3_bytes=t3_bytes // BYTES_OF_FLOAT32 * BYTES_OF.get(decoder.precision, BYTES_OF_FLOAT32),
            s3gen_bytes=s3gen_bytes,
            used_at=time.monotonic(),
        )

    def _shared(self, s3gen: Any) -> tuple[Any, Renderer]:
        """The S3Gen of another variant in memory if its weights are the same, else this one."""
        for model in self._models.values():
            if _are_equal(model.s3gen, s3gen):
                return model.s3gen, model.renderer
        precision = self._options.s3gen_precision
        exactly = None if precision == "auto" else cast(RenderPrecision, precision)
        return s3gen, Renderer(s3gen, exactly, records=self._options.cuda_graphs)


def default_precision(device: torch.device) -> Precision:
    """On processors weights of 8 bits, for what they cost is the reading of them; on GPUs bfloat16, if they have it.

    A GPU that has none (before Ampere) computes in float32: float16 has not the range that trained activations need.
    """
    if device.type == "cuda":
        return "bf16" if has_bfloat16(device) else "fp32"
    return "int8" if device.type == "cpu" else "fp32"


def _bytes_of(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def _are_equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
