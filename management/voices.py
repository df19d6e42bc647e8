"""The voice library: recordings below `voices/` whose voices can be spoken with."""

from __future__ import annotations

import difflib
import logging
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from management.companions import MOST, Companions, modified, moment, texts
from management.index import Index
from management.store import AudioStore, Limits, Staged
from management.stored import EXTENSIONS, Description, StoredFile, is_audio
from resilience.errors import AmbiguousVoice, FileMissing, InvalidPath, NameTaken, SpeechError, VoiceNotFound
from utils.files.naming import NO_WORD, word
from utils.text.fold import fold

logger = logging.getLogger(__name__)

LIBRARY = "voices"
ID = "voice_id"  # where the companion of a voice that was made through OpenAI's API has its id
ID_PREFIX = "voice_"
CLOSE_AMONG = 2000  # names that a misspelt one is compared with
DETAILS = ("name", "description", "tags", "aliases", "default_parameters")  # that people give a voice


class VoiceCompanions(Companions):
    """`anna.wav.json` beside `anna.wav`."""

    library = LIBRARY
    judges = True

    def read(self, content: Mapping[str, Any], path: Path) -> Description:
        name, description = content.get("name"), content.get("description")
        parameters, count = content.get("default_parameters"), content.get("usage_count")
        tags, aliases = texts(content.get("tags")), texts(content.get("aliases"))
        made_as = content.get(ID)
        made_as = made_as if isinstance(made_as, str) and made_as.startswith(ID_PREFIX) else None
        description = description if isinstance(description, str) else ""
        return Description(
            created=moment(content.get("created_date"), modified(path)),
            about={
                "description": description,
                "default_parameters": parameters if isinstance(parameters, dict) else {},
                **({ID: made_as} if made_as else {}),
            },
            name=name if isinstance(name, str) else "",
            searched=[description] if description else [],
            tags=tags,
            aliases=[*aliases, *([made_as] if made_as and made_as not in aliases else [])],
            usage_count=count if type(count) is int and 0 < count < MOST else 0,
            last_used=_last_used(content),
        )


@dataclass(frozen=True, slots=True)
class Voice:
    """A recording that was found by one of its names. `relative` is its path below `voices/`."""

    relative: str
    path: Path
    content_hash: str
    default_parameters: Mapping[str, Any]


class Voices:
    """The library. Everything here blocks: call it from a thread."""

    def __init__(self, index: Index, data_dir: Path, limits: Limits) -> None:
        self.store = AudioStore(index, data_dir / LIBRARY, VoiceCompanions(), limits)

    # Finding

    def find(self, name: str, *, field: str = "reference_audio_filename") -> Voice | None:
        """The voice that goes by a name, None if there is none; see `spelled`. Raises AmbiguousVoice, InvalidPath.

        `field` is where the client names the voice.
        """
        file = self.spelled(name, field=field)
        if file is None:
            return None
        return Voice(file.relative, file.path, file.content_hash, file.about.get("default_parameters", {}))

    def get(self, name: str, *, field: str = "path") -> StoredFile:
        """As `find`. Raises VoiceNotFound instead of None."""
        if file := self.spelled(name, field=field):
            return file
        raise self.not_found(name)

    def spelled(self, name: str, *, field: str = "path") -> StoredFile | None:
        """The voice that a name means, in this order: its path below `voices/`, with or without its extension; the
        name that it was given; an alias; its file name, with or without extension, in whichever folder it lies.

        Case and accents count in paths only. Raises AmbiguousVoice where several voices answer to the name,
        InvalidPath for what is neither a name nor a path.
        """
        refusal = None
        try:
            if file := self._at(name, field):
                return file
        except InvalidPath as error:
            refusal = error
        for found in (self.store.shelf.named(name), self.store.shelf.called(name), self._in_any_folder(name)):
            there = [file for file in found if self._is_there(file)]
            if there:
                return _only(there, name, field)
        if refusal:
            raise refusal
        return None

    def not_found(self, name: str, others: Sequence[str] = ()) -> VoiceNotFound:
        """The failure to raise where there is no such voice, with the names that look like it."""
        close = self.close_matches(name, others)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        return VoiceNotFound(f"there is no voice named {name}{hint}", detail={"voice": name, "close_matches": close})

    def close_matches(self, name: str, others: Sequence[str] = ()) -> list[str]:
        """Names of voices that look like `name`, in the library and among `others`."""
        known = [*others, *self.store.shelf.some_paths(name, CLOSE_AMONG)]
        by_stem = {fold(Path(voice).with_suffix("").as_posix()): voice for voice in known}
        by_stem |= {stem.rpartition("/")[2]: voice for stem, voice in by_stem.items()} | by_stem
        near = difflib.get_close_matches(fold(Path(name).with_suffix("").as_posix()), by_stem, n=3)
        return list(dict.fromkeys(by_stem[stem] for stem in near))

    def _at(self, name: str, field: str) -> StoredFile | None:
        """The voice at a path, with or without its extension."""
        if self.store.has(name):
            return self.store.get(name)
        path = self.store.locate(name)
        stems = {unicodedata.normalize(form, path.name) for form in ("NFC", "NFD")}
        endings = [form for extension in EXTENSIONS for form in (extension, extension.upper())]
        spellings = [path.with_name(stem + ending) for stem in stems for ending in endings]
        there: dict[Path, StoredFile] = {}  # by place: where case does not count, two spellings are one file
        for spelling in spellings:
            if spelling.is_file():
                with suppress(FileMissing):
                    file = self.store.get(spelling.relative_to(self.store.root).as_posix())
                    there[file.path.resolve()] = file
        return _only([*there.values()], name, field) if there else None

    def _in_any_folder(self, name: str) -> list[StoredFile]:
        """The voices by their file name, with or without extension."""
        if "/" in name:
            return []
        stem = name.rpartition(".")[0] if is_audio(name) else name
        found = self.store.shelf.stemmed(stem)
        return found if stem == name else [file for file in found if fold(file.filename) == fold(name)]

    def _is_there(self, file: StoredFile) -> bool:
        return file.path.is_file()

    # Changing

    def add(
        self,
        source: BinaryIO,
        filename: str,
        *,
        folder: str | None,
        overwrite: bool,
        details: Mapping[str, Any],
        max_bytes: int,
    ) -> StoredFile:
        """Take a recording in, with what is said of it. Raises what `AudioStore.put` raises."""

        def check(target: str) -> None:
            self._refuse_aliases_of_others(details.get("aliases") or (), besides=target)
            self._refuse_names_that_are_aliases([Path(target).stem, details.get("name")], besides=target)

        said = {key: details[key] for key in DETAILS if details.get(key)}
        return self.store.put(
            source,
            filename,
            folder=folder,
            overwrite=overwrite,
            content=partial(_first_companion, said),
            max_bytes=max_bytes,
            check=check,
        )

    def create(
        self, source: BinaryIO, name: str, *, consent: str | None, max_bytes: int, taken: Collection[str] = ()
    ) -> StoredFile:
        """Take in the sample of a voice that gets an id, `about[ID]`, which is one of its names from then on.

        `consent` is the id of one in the library of consents, `taken` are names that mean voices outside the library.
        Raises NameTaken if the name means a voice already, and what `AudioStore.put` raises.
        """
        elsewhere = {fold(other) for other in taken}
        if fold(name) in elsewhere:
            raise NameTaken(f"{name} is the name of a voice already", detail={"alias": name})
        identity = f"{ID_PREFIX}{uuid4().hex}"
        said = {"name": name, ID: identity, **({"consent": consent} if consent else {})}
        stem = word(name)
        is_taken = stem == NO_WORD or fold(stem) in elsewhere or self._meant(stem)  # a file name is a name, too
        return self.store.put(
            source,
            identity if is_taken else stem,
            folder=None,
            overwrite=False,
            content=partial(_first_companion, said),
            max_bytes=max_bytes,
            check=lambda _: self._refuse_aliases_of_others([name], besides=""),
        )

    def remove_created(self, identity: str) -> None:
        """Remove a voice that `create` made, by its id. Raises FileMissing for any other."""
        made = (file for file in self.store.shelf.called(identity) if file.about.get(ID) == identity)
        if not (file := next(made, None)):
            raise FileMissing(f"no voice with the id {identity} was made here")
        self.store.delete(file.relative)

    def change(self, name: str, changes: Mapping[str, Any]) -> StoredFile:
        """Change what is said of a voice: `name`, `description`, `tags`, `aliases`, `default_parameters`, or where it
        lies (`folder_path`). None clears; what is not named stays.

        Raises VoiceNotFound, AmbiguousVoice, NameTaken, InvalidPath.
        """
        file = self.get(name)

        def changed(content: dict[str, Any]) -> dict[str, Any]:
            self._refuse_aliases_of_others(changes.get("aliases") or (), besides=file.relative)
            self._refuse_names_that_are_aliases([changes.get("name")], besides=file.relative)
            said = {key: changes.get(key, content.get(key)) for key in DETAILS}
            kept = {key: value for key, value in content.items() if key not in DETAILS}
            return {key: value for key, value in said.items() if value} | kept

        return self.store.change(file, changed, folder=changes.get("folder_path"), moves="folder_path" in changes)

    def judge(self, name: str) -> StoredFile:
        """Measure the quality of a voice anew, and keep it. Raises VoiceNotFound, InvalidAudio."""
        from utils.audio.analysis import listen

        file = self.get(name)
        heard = listen(file.path, self.store.longest_s, judge=True)
        return self.store.change(file, lambda content: {**content, "quality": heard.quality})

    def record_use(self, relative: str, content_hash: str) -> None:
        """Count one generation with the voice, wherever it was moved meanwhile.

        The count is no reason to lose what was generated: it may fail.
        """

        def used(content: dict[str, Any]) -> dict[str, Any]:
            count = content.get("usage_count")
            return {**content, "usage_count": (count if type(count) is int else 0) + 1, "last_used": now()}

        try:
            if not self.store.has(relative):
                relative = next((file.relative for file in self.store.shelf.hashed(content_hash)), relative)
            file = self.store.get(relative)
            if self.store.is_companion_readable(file):
                self.store.change(file, used)
        except (SpeechError, OSError) as error:
            logger.warning("use of a voice not counted reason=%s", error)

    def companion(self, file: StoredFile) -> dict[str, Any]:
        """All that is known of a voice, as its companion would say it."""
        return self.store.full_companion(file)

    def _refuse_aliases_of_others(self, aliases: Sequence[str], besides: str) -> None:
        """Ask with the store locked: two may want the same alias at once."""
        for alias in aliases:
            if meant := self._meant(alias) - {besides}:
                voice = min(meant)
                raise NameTaken(f"{alias} already means {voice}", detail={"alias": alias, "voice": voice})

    def _refuse_names_that_are_aliases(self, names: Sequence[str | None], besides: str) -> None:
        """A name goes before an alias: whoever asks for the one would get the other, and hear the wrong person."""
        for name in filter(None, names):
            for file in self.store.shelf.called(name):
                if file.relative != besides and self._is_there(file):
                    raise NameTaken(
                        f"{name} is an alias of {file.relative}", detail={"alias": name, "voice": file.relative}
                    )

    def _meant(self, alias: str) -> set[str]:
        """The paths of all voices that an alias would find or be mistaken for."""
        found = [*self.store.shelf.called(alias), *self.store.shelf.named(alias), *self._in_any_folder(alias)]
        with suppress(InvalidPath, AmbiguousVoice):
            found += [file for file in [self._at(alias, "aliases")] if file]
        return {file.relative for file in found if self._is_there(file)}


def _first_companion(said: Mapping[str, Any], staged: Staged) -> dict[str, Any]:
    return {**said, "created_date": now(), "audio": staged.record(), "quality": staged.quality}


def now() -> str:
    return datetime.now(UTC).isoformat()


def _only(files: Sequence[StoredFile], name: str, field: str) -> StoredFile:
    if len(files) == 1:
        return files[0]
    candidates = [file.relative for file in files]
    raise AmbiguousVoice(
        f"{name} may mean {' or '.join(candidates[:5])}: say which", field=field, candidates=candidates[:20]
    )


def _last_used(content: Mapping[str, Any]) -> datetime | None:
    unknown = datetime.fromtimestamp(0, UTC)
    used = moment(content.get("last_used"), unknown)
    return None if used == unknown else used
