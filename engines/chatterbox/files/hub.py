"""Fetching a variant from the Hugging Face hub into its cache, where every other program finds it too.

The cache's layout is documented (huggingface.co/docs/huggingface_hub/guides/manage-cache): `blobs/` holds contents by
their etag, `snapshots/<commit>/` the files of one commit as links to them, `refs/main` the commit that is current.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx
from filelock import Timeout
from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock

from engines.base import LoadProgress
from engines.chatterbox.files.integrity import fault_of
from engines.chatterbox.files.transfer import Meter, Patience, Transfer, Trials, is_passing
from engines.chatterbox.files.weights import Located, Source, select
from engines.chatterbox.variants import Variant
from resilience.errors import ModelUnavailable
from utils.files.atomic import NO_SPACE, write_atomically

HASHED_BLOCK_BYTES = 1 << 22
SHA256_DIGITS = 64
LOCK_SLICE_S = 0.5
PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Published:
    """A file as the hub describes it. `etag` names its content: a SHA-256 if it is large, else the hash git gave it."""

    name: str
    url: str
    size: int
    etag: str
    commit: str


def answers(timeout_s: float) -> bool:
    """True if the hub gives any answer within `timeout_s`, which bounds the look-up of its name as well.

    Asked the way that a download is, so a proxy and own certificates count.
    """
    answer: Future[bool] = Future()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=timeout_s, follow_redirects=False)
            answer.set_result(True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            answer.set_result(False)

    threading.Thread(target=ask, daemon=True, name="hub-probe").start()
    try:
        return answer.result(timeout_s)
    except TimeoutError:
        return False


def download(
    variant: Variant,
    source: Source,
    on_progress: Callable[[LoadProgress], None],
    check: Callable[[], None],
    patience: Patience = PATIENCE,
) -> Located:
    """Fetch what the hub's cache lacks of a variant, all files at one commit, the large ones verified by hash.

    Goes on where an earlier call was broken off. `on_progress` hears of it once a second, `check` is called several
    times a second and may raise. Raises ModelUnavailable with a sentence that names the file and the reason.
    """
    if source.is_offline:
        raise ModelUnavailable(f"{variant.name} is not here, and fetching it is forbidden")
    if not answers(source.hub_timeout_s):
        raise ModelUnavailable(
            f"{variant.name} is not here, and the Hugging Face hub did not answer within {source.hub_timeout_s:g} s"
        )
    cache = Path(constants.HF_HUB_CACHE)
    try:
        published = _Listing(variant.repository, source.hub_timeout_s, patience, check).of(variant)
        return _Cache(cache, variant.repository).take(published, source, on_progress, check, patience)
    except HfHubHTTPError as error:
        raise ModelUnavailable(_explanation(error, variant.repository)) from error
    except (httpx.HTTPError, EntryNotFoundError) as error:
        raise ModelUnavailable(f"fetching {variant.name} failed: {error}") from error
    except OSError as error:
        if error.errno in NO_SPACE:
            raise ModelUnavailable(f"the disk is full: {cache} has no room for {variant.name}") from error
        raise ModelUnavailable(f"{variant.name} cannot be stored in {cache}: {error.strerror or error}") from error


class _Listing:
    """What the hub has of a repository, asked file by file, all at the commit that `main` is when first asked."""

    def __init__(self, repository: str, timeout_s: float, patience: Patience, check: Callable[[], None]) -> None:
        self._repository = repository
        self._timeout_s = timeout_s
        self._patience = patience
        self._check = check
        self._revision = "main"
        self._known: dict[str, Published | None] = {}

    def of(self, variant: Variant) -> list[Published]:
        """The files to fetch for a variant. Raises ModelUnavailable naming one that is needed and not there."""
        selection = select(variant, lambda name: self._file(name) is not None)
        if selection.missing:
            raise ModelUnavailable(f"the hub has no {selection.missing[0]} in {self._repository}")
        return [file for name in selection.names if (file := self._file(name)) is not None]

    def _file(self, name: str) -> Published | None:
        if name not in self._known:
            self._known[name] = self._asked(name)
        return self._known[name]

    def _asked(self, name: str) -> Published | None:
        trials = Trials(f"asking for {name}", self._patience, self._check)
        while True:
            self._check()
            url = hf_hub_url(self._repository, name, revision=self._revision)
            try:
                metadata = get_hf_file_metadata(url, timeout=self._timeout_s)
            except EntryNotFoundError:
                return None
            except (HfHubHTTPError, httpx.TransportError) as error:
                if not is_passing(error):
                    raise
                trials.failed(error)
                continue
            if metadata.commit_hash is None or metadata.etag is None or metadata.size is None:
                raise ModelUnavailable(f"{constants.ENDPOINT} does not describe {name} as the Hugging Face hub does")
            self._revision = metadata.commit_hash
            url = hf_hub_url(self._repository, name, revision=self._revision)
            return Published(name, url, metadata.size, metadata.etag, metadata.commit_hash)


class _Cache:
    """The hub's cache folder of one repository, as something to fill."""

    def __init__(self, cache: Path, repository: str) -> None:
        folder = repo_folder_name(repo_id=repository, repo_type="model")
        self._repository = repository
        self._folder: Path = cache / folder
        self._locks: Path = cache / ".locks" / folder

    def take(
        self,
        published: list[Published],
        source: Source,
        on_progress: Callable[[LoadProgress], None],
        check: Callable[[], None],
        patience: Patience,
    ) -> Located:
        """Fetch what is not here of the `published` files; then, and only then, their commit is the current one."""
        self._require_space(published)
        meter = Meter(sum(file.size for file in published), on_progress)
        transfer = Transfer(meter, check, source.hub_timeout_s, patience)
        commit = published[0].commit
        for file in published:
            meter.begin(file.name)
            self._fetch(file, transfer)
            meter.end(file.size)
        files = {file.name: Path(hf_hub_download(self._repository, file.name, revision=commit)) for file in published}
        (self._folder / "refs").mkdir(exist_ok=True)
        write_atomically(self._folder / "refs" / "main", commit.encode())
        return Located(files, commit)

    def _fetch(self, file: Published, transfer: Transfer) -> None:
        with self._locked(file, transfer.check):
            if self._is_here(file):
                return
            self._blob(file).unlink(missing_ok=True)
            self._link(file).unlink(missing_ok=True)
            partial = self._partial(file)
            partial.parent.mkdir(parents=True, exist_ok=True)
            transfer.receive(file.name, file.url, file.size, partial)
            if not _has_hash(partial, file, transfer.check):
                partial.unlink()
                raise ModelUnavailable(f"{file.name} was damaged on its way from the hub; it will be fetched anew")
            with partial.open("r+b") as content:
                os.fsync(content.fileno())
            partial.replace(self._blob(file))

    def _is_here(self, file: Published) -> bool:
        """True if the content is whole: behind its link, or as a file where the system has no links."""
        suffix = PurePosixPath(file.name).suffix
        return any(
            path.is_file() and path.stat().st_size == file.size and fault_of(path, suffix) is None
            for path in (self._link(file), self._blob(file))
        )

    def _require_space(self, published: list[Published]) -> None:
        here = sum(self._partial(file).stat().st_size for file in published if self._partial(file).exists())
        needed = sum(file.size for file in published if not self._is_here(file)) - here
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise ModelUnavailable(
                f"{needed / 1e9:.1f} GB are to be fetched and {free / 1e9:.1f} GB are free where {self._folder} is"
            )

    def _blob(self, file: Published) -> Path:
        return self._folder / "blobs" / file.etag

    def _link(self, file: Published) -> Path:
        return self._folder / "snapshots" / file.commit / file.name

    def _partial(self, file: Published) -> Path:
        return self._folder / "blobs" / f"{file.etag}.incomplete"

    @contextmanager
    def _locked(self, file: Published, check: Callable[[], None]) -> Iterator[None]:
        """The lock that huggingface_hub takes too: whoever else fetches this file is waited for."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            while True:
                check()
                try:
                    held.enter_context(WeakFileLock(self._locks / f"{file.etag}.lock", timeout=LOCK_SLICE_S))
                    break
                except Timeout:
                    continue
            yield


def _has_hash(path: Path, file: Published, check: Callable[[], None]) -> bool:
    """False if the content is another than its etag says. Only large files have their SHA-256 as etag."""
    if len(file.etag) != SHA256_DIGITS:
        return True
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(HASHED_BLOCK_BYTES):
            check()
            digest.update(block)
    return digest.hexdigest() == file.etag


def _explanation(error: HfHubHTTPError, repository: str) -> str:
    if isinstance(error, GatedRepoError):
        return f"{repository} is gated: accept its terms on {constants.ENDPOINT} and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub does not show {repository}: it is private or gone, or HF_TOKEN is not valid"
    return f"the hub answered {error.response.status_code} for {PurePosixPath(error.response.url.path).name}"
