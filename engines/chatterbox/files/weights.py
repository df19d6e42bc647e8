"""Where the files of a variant are on this machine, or why they are nowhere. No network here, and no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from engines.chatterbox.files.integrity import fault_of
from engines.chatterbox.options import ChatterboxOptions
from engines.chatterbox.variants import VARIANTS, Variant

FINGERPRINTED_BYTES = 1 << 16  # of each file: all of a safetensors header, or nearly


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights may come from: `folder` first, then the Hugging Face cache, then, unless `offline`, the hub.

    Finding out that the hub cannot be reached takes `hub_timeout_s` seconds at most.
    """

    folder: Path | None = None
    offline: bool = False
    hub_timeout_s: float = 8.0

    @classmethod
    def of(cls, options: ChatterboxOptions) -> Source:
        folder = None if options.weights is None else Path(options.weights)
        return cls(folder, options.offline, options.hub_timeout_s)

    @property
    def is_offline(self) -> bool:
        """True if the settings or HF_HUB_OFFLINE forbid fetching."""
        from huggingface_hub import constants

        return self.offline or bool(constants.HF_HUB_OFFLINE)


@dataclass(frozen=True, slots=True)
class Located:
    """The files of a variant by the names under which they are published, all of them from one folder.

    `revision` names what is in them: the commit of a snapshot of the hub, or `local-` and a fingerprint.
    """

    files: Mapping[str, Path]
    revision: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A clause on why a variant cannot be loaded, and whether fetching it could help (the hub was not asked)."""

    why: str
    can_download: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """What to take of the files that are there; `missing` is what else is needed."""

    names: tuple[str, ...]
    missing: tuple[str, ...]


def select(variant: Variant, is_there: Callable[[str], bool]) -> Selection:
    """The files to load among those for which `is_there` holds: of alternatives the preferred one that is whole."""
    names: list[str] = []
    missing: list[str] = []
    for alternatives in variant.needed_files:
        lacks = [[name for name in alternative if not is_there(name)] for alternative in alternatives]
        nearest = min(range(len(alternatives)), key=lambda index: len(lacks[index]))
        names += [name for name in alternatives[nearest] if name not in lacks[nearest]]
        missing += lacks[nearest]
    names += [name for name in (*variant.optional_files, variant.own_voice_file) if is_there(name)]
    return Selection(tuple(names), tuple(missing))


def locate(variant: Variant, source: Source) -> Located | Missing:
    """The files of a variant as they lie on this machine, looked at without the network and without reading them all.

    A folder that holds the variant's T3 file is meant for it: what is missing or damaged there is not looked for
    elsewhere.
    """
    from huggingface_hub import constants

    folder = None if source.folder is None else _folder_with_t3(variant, source.folder)
    if folder is not None:
        return in_folder(variant, folder)
    found = in_cache(variant, Path(constants.HF_HUB_CACHE))
    if isinstance(found, Located):
        return found
    why = found.why if source.folder is None else f"{_no_t3(variant, source.folder)} and {found.why}"
    if source.offline:
        return Missing(f"{why}, and the settings forbid fetching it", can_download=False)
    if source.is_offline:
        return Missing(f"{why}, and HF_HUB_OFFLINE forbids fetching it", can_download=False)
    return Missing(why, can_download=True)


def in_folder(variant: Variant, folder: Path) -> Located | Missing:
    """The files of a variant that lie directly in `folder`."""
    selection = select(variant, lambda name: (folder / name).is_file())
    if selection.missing:
        return Missing(f"{selection.missing[0]} is missing from {folder}", can_download=False)
    files = {name: folder / name for name in selection.names}
    damage = _damage(files)
    if damage is not None:
        return Missing(f"{damage} in {folder}", can_download=False)
    return Located(files, f"local-{fingerprint(files)}")


def in_cache(variant: Variant, cache: Path) -> Located | Missing:
    """The files of a variant in the first snapshot of the hub's `cache` that has all of them undamaged.

    Files of two snapshots are never mixed. The snapshot that is current comes first; an older one serves where another
    program has fetched only part of a newer one.
    """
    why = f"{variant.name} is not in the Hugging Face cache"
    for snapshot in reversed(_snapshots(variant.repository, cache)):
        found = in_folder(variant, snapshot)
        if isinstance(found, Located):
            return Located(found.files, snapshot.name)
        if any((snapshot / name).is_file() for name in variant.t3_files):
            why = f"the Hugging Face cache does not hold all of {variant.name}: {found.why}"
    return Missing(why, can_download=True)


def fingerprint(files: Mapping[str, Path]) -> str:
    """16 hex digits that change when a file does, as far as its name, size, date and first 64 KiB tell."""
    digest = hashlib.sha256()
    for name in sorted(files):
        status = files[name].stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        with files[name].open("rb") as file:
            digest.update(file.read(FINGERPRINTED_BYTES))
    return digest.hexdigest()[:16]


def why_unavailable(options: ChatterboxOptions) -> str | None:
    """A clause on why Chatterbox cannot speak here, or None if the weights are here or can be fetched.

    Looks at what is installed, then for the weights (of the variant that the settings name, or of any), then whether
    the hub answers, which takes `hub_timeout_s` seconds at most.
    """
    if find_spec("chatterbox") is None or find_spec("huggingface_hub") is None:
        return "the package chatterbox-tts is not installed"
    from engines.chatterbox.files import hub

    source = Source.of(options)
    variants = VARIANTS.values() if options.model == "auto" else (VARIANTS[options.model],)
    answers = [locate(variant, source) for variant in variants]
    missing = [answer for answer in answers if isinstance(answer, Missing)]
    if len(missing) < len(answers):
        return None
    fetchable = [answer for answer in missing if answer.can_download]
    if not fetchable:
        return missing[0].why
    if hub.answers(source.hub_timeout_s):
        return None
    return f"{fetchable[0].why}, and the Hugging Face hub could not be reached in {source.hub_timeout_s:g} s"


def _folder_with_t3(variant: Variant, folder: Path) -> Path | None:
    """`folder` itself or the one in it that holds a T3 file of the variant: one named like it before any other."""
    if not folder.is_dir():
        return None
    inside = sorted((entry for entry in folder.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
    inside.sort(key=lambda entry: entry.name != variant.name)
    for candidate in (folder, *inside):
        if any((candidate / name).is_file() for name in variant.t3_files):
            return candidate
    return None


def _no_t3(variant: Variant, folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    return f"neither {folder} nor a folder in it holds {' or '.join(variant.t3_files)}"


def _snapshots(repository: str, cache: Path) -> list[Path]:
    """The snapshots of a repository, oldest first, and last of all the one that `main` stands for."""
    from huggingface_hub.file_download import repo_folder_name

    folder = cache / repo_folder_name(repo_id=repository, repo_type="model")
    if not (folder / "snapshots").is_dir():
        return []
    main = folder / "refs" / "main"
    current = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = [Path(entry) for entry in os.scandir(folder / "snapshots") if entry.is_dir()]
    return sorted(snapshots, key=lambda entry: (entry.name == current, entry.stat().st_mtime_ns))


def _damage(files: Mapping[str, Path]) -> str | None:
    for name, path in files.items():
        fault = fault_of(path)
        if fault is not None:
            return f"{name} is damaged ({fault})"
    return None
