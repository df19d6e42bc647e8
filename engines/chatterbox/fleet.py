"""The variants in memory: loaded when they are asked for, shared where they are the same, gone when nobody asks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import torch

from engines.base import LoadProgress
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
from resilience.errors import ModelUnavailable

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A variant that can speak. `s3gen` and `voice_encoder` are upstream's modules, for preparing voices."""

    variant: Variant
    revision: str
    decoder: Decoder
    renderer: Renderer
    reader: TextReader
    s3gen: Any
    voice_encoder: Any
    own_voice: PreparedVoice | None
    weights_bytes: int
    used_at: float


class Fleet:
    """Finds, loads and lets go of variants. One thread asks; loading is done in a thread of its own."""

    def __init__(self, options: ChatterboxOptions, device: torch.device, batch: int) -> None:
        self._options = options
        self._source = Source.of(options)
        self._device = device
        self._batch = batch
        self._models: Mapping[str, LoadedModel] = {}
        self._under_way: dict[str, Future[LoadedModel]] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")

    @property
    def models(self) -> Mapping[str, LoadedModel]:
        """Those in memory by name, for any thread: never changed, only replaced."""
        return self._models

    @property
    def is_loading(self) -> bool:
        return bool(self._under_way)

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
        """The variant, from memory or from its files, fetched if need be. Waits. Raises ModelUnavailable."""
        while (model := self.get(name, on_progress)) is None:
            self._under_way[name].exception()
        return model

    def get(self, name: str, on_progress: Callable[[LoadProgress], None]) -> LoadedModel | None:
        """The variant if it is in memory, else None, and it is being loaded: ask again.

        Raises ModelUnavailable if loading it has just failed; asking again tries again.
        """
        loaded = self._models.get(name)
        if loaded is None:
            under_way = self._under_way.get(name)
            if under_way is None:
                self._make_room()
                self._under_way[name] = self._loader.submit(self._load, VARIANTS[name], on_progress)
                return None
            if not under_way.done():
                return None
            del self._under_way[name]
            loaded = under_way.result()
            self._models = {**self._models, name: loaded}
        loaded.used_at = time.monotonic()
        return loaded

    def unload(self, name: str) -> None:
        """Let go of a variant that is speaking nothing."""
        self._models = {other: model for other, model in self._models.items() if other != name}
        logger.info("model unloaded name=%s", name)

    def unload_idle(self, default: str) -> None:
        """Let go of those that nobody has asked for in `unload_after_s`; the default stays."""
        before = time.monotonic() - self._options.unload_after_s
        for name, model in self._models.items():
            if name != default and model.used_at < before and not model.decoder.active:
                self.unload(name)

    def _make_room(self) -> None:
        """Before another one is loaded: the least recently used leave until the weights left are within the limit."""
        limit = self._options.memory_limit_mb * 1_000_000
        if not limit:
            return
        idle = sorted(
            (model for model in self._models.values() if not model.decoder.active), key=lambda model: model.used_at
        )
        # What is to come is reckoned to be as large as the largest: the limit is for when it is there.
        to_come = max((model.weights_bytes for model in self._models.values()), default=0)
        for model in idle:
            if to_come + sum(model.weights_bytes for model in self._models.values()) > limit:
                self.unload(model.variant.name)

    def _load(self, variant: Variant, on_progress: Callable[[LoadProgress], None]) -> LoadedModel:
        started_at = time.monotonic()
        found = locate(variant, self._source)
        if not isinstance(found, Located):
            if not found.can_download:
                raise ModelUnavailable(f"{variant.name} cannot be loaded: {found.why}", retry_after_s=10)
            found = hub.download(variant, self._source, on_progress, check=lambda: None)
        variant = edition(variant, found.files)
        on_progress(LoadProgress(f"loading {variant.name}"))
        modules = load_modules(variant, found.files, self._device)
        weights_bytes = _bytes_of(modules.t3) + _bytes_of(modules.s3gen)
        s3gen, renderer = self._shared(modules.s3gen)
        asked = self._options.t3_precision
        precision = default_precision(self._device) if asked == "auto" else cast(Precision, asked)
        with torch.inference_mode():
            decoder = Decoder(modules.t3, variant, precision, self._device, self._batch)
        took_s = time.monotonic() - started_at
        logger.info("model loaded name=%s revision=%s took_s=%.1f", variant.name, found.revision, took_s)
        return LoadedModel(
            variant=variant,
            revision=found.revision,
            decoder=decoder,
            renderer=renderer,
            reader=TextReader(variant, modules.tokenizer),
            s3gen=s3gen,
            voice_encoder=modules.voice_encoder,
            own_voice=modules.own_voice,
            weights_bytes=weights_bytes,
            used_at=time.monotonic(),
        )

    def _shared(self, s3gen: Any) -> tuple[Any, Renderer]:
        """The S3Gen of another variant in memory if its weights are the same, else this one."""
        for model in self._models.values():
            if _are_equal(model.s3gen, s3gen):
                return model.s3gen, model.renderer
        precision = self._options.s3gen_precision
        return s3gen, Renderer(s3gen, None if precision == "auto" else cast(RenderPrecision, precision))


def default_precision(device: torch.device) -> Precision:
    """fp16 weights keep every token that was compared; on GPUs bfloat16, whose range trained activations need."""
    precisions: dict[str, Precision] = {"cpu": "fp16", "cuda": "bf16"}
    return precisions.get(device.type, "fp32")


def _bytes_of(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def _are_equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
