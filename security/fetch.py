"""Recordings fetched by their web address, for people who may not be trusted, from servers that need not be.

docs/decisions/fetching.md says what is refused and why. In short: the address is taken apart by `addresses.py`, the
host is looked up once, all that it resolves to must be public, and the connection goes to an address that was checked.
That holds for every redirect and every new attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar

from config.settings import FetchSettings
from resilience.errors import (
    DownloadFailed,
    DownloadRefused,
    FileTooLarge,
    ServiceOverloaded,
    SpeechError,
    StorageFull,
)
from resilience.retry import Backoff, retry_after_s
from security.addresses import (
    ANY_HOST,
    Address,
    Forbidden,
    HostRule,
    WebAddress,
    is_foreign,
    is_unicast,
    require_permitted,
)
from utils.files.atomic import full_disk_told, require_free_space, temporary

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Resolve = Callable[[str, int], Sequence[str]]

REFUSED = (
    "this web address cannot be fetched: it must begin with http:// or https://, hold no user name, and name a public "
    "host and a port that this server may ask"
)
OFF = "this server fetches no recordings from web addresses"

REDIRECTS = frozenset({301, 302, 303, 307, 308})
OK = 200
SERVER_ERROR = 500
AUDIO_TYPES = frozenset({"application/ogg", "application/octet-stream", "binary/octet-stream", ""})
# Lists of further addresses, which a reader of audio might follow.
PLAYLISTS = frozenset(
    {"audio/mpegurl", "audio/x-mpegurl", "audio/scpls", "audio/x-scpls", "audio/x-pn-realaudio", "audio/x-ms-wax"}
)
MEGABYTE = 1_000_000
WRITTEN_AT_ONCE = 512 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
ADDRESSES_TRIED = 4


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for the parts of a download; all of it together has `FetchSettings.timeout_s`."""

    lookup_s: float = 5.0
    connect_s: float = 5.0  # to one address
    silence_s: float = 10.0  # without a byte
    # A refusal that followed a look-up is told at one of these moments, counted from its beginning: the time that the
    # resolver takes is not the same for names that exist inside the network and names that do not exist.
    refusal_s: tuple[float, ...] = (0.15, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole download. The file is the fetcher's: it is gone when the context is left."""

    path: Path
    size_bytes: int
    sha256: str


class Fetcher:
    """Fetches recordings, a few at a time. Belongs to one event loop.

    `resolve` blocks and is called in a thread: host and port → addresses. `is_allowed` says which of them may be asked;
    all must be. It follows from the settings and is an argument for tests.
    """

    def __init__(
        self,
        settings: FetchSettings,
        resolve: Resolve | None = None,
        *,
        is_allowed: Callable[[Address], bool] | None = None,
        tls: ssl.SSLContext | None = None,
        patience: Patience | None = None,
        backoff: Backoff | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        self._settings = settings
        self._rules = tuple(map(HostRule.parse, settings.allowed_hosts)) or ANY_HOST
        self._resolve = resolve or resolved
        self._is_allowed = is_allowed or (is_unicast if settings.allow_private else is_foreign)
        self._tls = tls
        self._patience = patience or Patience()
        self._backoff = backoff or Backoff()
        self._min_free_bytes = min_free_bytes
        self._max_bytes = settings.max_mb * MEGABYTE
        self._places = asyncio.Semaphore(settings.at_once)
        # Threads of its own: a resolver that hangs must not hold those that everybody's files are written in.
        self._lookups = ThreadPoolExecutor(4 * settings.at_once, thread_name_prefix="lookup")

    async def warm_up(self) -> None:
        """Import the client and read the certificates, in a thread: 0.5 s that the first fetch is spared."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(_trusted)

    def close(self) -> None:
        """Let the threads end; a look-up that still runs is not waited for."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def fetch(self, url: str, folder: Path) -> AsyncIterator[Fetched]:
        """The recording at `url` in a temporary file in `folder`, which is removed at the end in every case.

        Raises DownloadRefused before anything is sent to an address that may not be asked, DownloadFailed if no whole
        recording comes in time, FileTooLarge, StorageFull, and ServiceOverloaded if others keep all places too long.
        """
        kept = ExitStack()
        try:
            with _logged() as progress:
                fetched = await self._fetched(url, folder, kept, progress)
            yield fetched
        finally:
            with suppress(StorageFull):  # of a file that goes anyway
                await settled(kept.close)

    async def _fetched(self, url: str, folder: Path, kept: ExitStack, progress: Progress) -> Fetched:
        if not self._settings.enabled:
            raise DownloadRefused(OFF)
        try:
            address = WebAddress.parse(url)
            self._require_permitted(address)
            progress.host = address.host
            async with self._place():
                await self.warm_up()
                sink = await settled(self._open, folder, kept)
                return await self._download(address, sink, progress)
        except Forbidden as forbidden:
            progress.reason = forbidden.reason
            if isinstance(forbidden, LookedUp):
                await asyncio.sleep(self._until_told(forbidden.began))
            raise DownloadRefused(REFUSED) from forbidden

    def _require_permitted(self, address: WebAddress) -> None:
        require_permitted(address, self._rules, local_names=self._settings.allow_private)

    def _until_told(self, began: float) -> float:
        passed = time.monotonic() - began
        return next((moment - passed for moment in self._patience.refusal_s if moment >= passed), 0.0)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the few places, if it comes free in the time that a download may take."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise ServiceOverloaded(
                "too many recordings are being fetched from web addresses; please try again",
                retry_after_s=max(1, round(self._settings.timeout_s / 2)),
            ) from error
        try:
            yield
        finally:
            self._places.release()

    def _open(self, folder: Path, kept: ExitStack) -> Sink:
        folder.mkdir(parents=True, exist_ok=True)
        require_free_space(folder, 0, self._min_free_bytes)
        file, path = kept.enter_context(temporary(folder))
        return Sink(file, path)

    async def _download(self, address: WebAddress, sink: Sink, progress: Progress) -> Fetched:
        """Try until it is there, within one deadline for all attempts."""
        deadline = time.monotonic() + self._settings.timeout_s
        while True:
            progress.attempts += 1
            try:
                return await self._attempt(address, sink, progress, deadline)
            except Passing as failure:
                pause_s = failure.retry_after_s
                if pause_s is None:
                    pause_s = self._backoff.pause_s(progress.attempts)
                is_last = progress.attempts >= self._settings.attempts
                if is_last or time.monotonic() + pause_s >= deadline:
                    raise _failed(failure.reason) from failure
                await asyncio.sleep(pause_s)

    async def _attempt(self, first: WebAddress, sink: Sink, progress: Progress, deadline: float) -> Fetched:
        """From the first address through its redirects to the last byte, all anew."""
        import httpx

        address = first
        try:
            for _ in range(self._settings.redirects + 1):
                found = await self._looked_up(address, deadline)
                async with self._timed(deadline), self._answer(address, found) as response:
                    _require_short_head(response)
                    if response.status_code not in REDIRECTS:
                        _require_audio(response)
                        return await self._received(response, sink, progress)
                    if "location" not in response.headers:
                        raise _failed("it redirects to nowhere")
                    address = address.joined(response.headers["location"])
                self._require_permitted(address)
        except httpx.TimeoutException as error:
            raise Passing("nothing came from it for too long") from error
        except (httpx.TransportError, ssl.SSLError) as error:
            if _is_untrusted(error):
                raise _failed("its certificate is not valid") from error
            raise Passing("the connection to it broke off, or none was made") from error
        raise _failed("it redirects too often")

    @asynccontextmanager
    async def _timed(self, deadline: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                yield
        except TimeoutError as error:
            raise _failed(f"it was not whole after {self._settings.timeout_s:g} s") from error

    async def _looked_up(self, address: WebAddress, deadline: float) -> list[Address]:
        """The addresses to connect to, all of which may be asked; raises LookedUp if any may not, or there is none."""
        began = time.monotonic()
        lookup = asyncio.get_running_loop().run_in_executor(self._lookups, self._allowed, address)
        try:
            async with asyncio.timeout(min(self._patience.lookup_s, deadline - began)):
                return await lookup
        except (OSError, ValueError, TimeoutError) as error:
            raise LookedUp("does not resolve", began) from error
        except Forbidden as error:
            raise LookedUp(error.reason, began) from error

    def _allowed(self, address: WebAddress) -> list[Address]:
        """Blocks. The families take turns, so that a machine with IPv4 alone does not try many of the other first."""
        if address.literal is None:
            found = list(dict.fromkeys(map(ip_address, self._resolve(address.host, address.port))))
        else:
            found = [address.literal]
        if not found:
            raise Forbidden("does not resolve")
        if not all(map(self._is_allowed, found)):
            raise Forbidden("not public")
        families: dict[int, list[Address]] = {}
        for one in found:
            families.setdefault(one.version, []).append(one)
        return [one for turn in zip_longest(*families.values()) for one in turn if one is not None]

    @asynccontextmanager
    async def _answer(self, address: WebAddress, found: list[Address]) -> AsyncIterator[httpx.Response]:
        """The head of the answer of the first address that takes the connection; its body is still to come.

        The transport is used without httpx's client, which would write the whole URL to the log, and for one request
        only: a connection belongs to the name that its certificate was checked for.
        """
        import httpx

        assert self._tls is not None
        timeout = httpx.Timeout(self._patience.silence_s, connect=self._patience.connect_s)
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            for index, one in enumerate(tried := found[:ADDRESSES_TRIED]):
                request = httpx.Request(
                    "GET",
                    httpx.URL(
                        scheme=address.scheme, host=str(one), port=address.port, raw_path=address.target.encode("ascii")
                    ),
                    headers={
                        "Host": address.authority,
                        "User-Agent": "chatterbox-tts-extended-plus",
                        "Accept": "audio/*, video/*;q=0.8, application/octet-stream;q=0.5",
                        "Accept-Encoding": "identity",
                        "Connection": "close",
                    },
                    extensions={"sni_hostname": address.host, "timeout": timeout.as_dict()},
                )
                try:
                    response = await transport.handle_async_request(request)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if index + 1 == len(tried):
                        raise
                    continue
                try:
                    yield response
                finally:
                    await response.aclose()
                return

    async def _received(self, response: httpx.Response, sink: Sink, progress: Progress) -> Fetched:
        """The body, counted as it comes and written in a thread."""
        declared = response.headers.get("content-length", "")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > self._max_bytes):
            raise self._too_large()
        await settled(sink.restart)
        progress.bytes = 0
        held = bytearray()
        async for block in response.aiter_raw():
            progress.bytes += len(block)
            if progress.bytes > self._max_bytes:
                raise self._too_large()
            held += block
            if len(held) >= WRITTEN_AT_ONCE:
                await settled(sink.write, bytes(held), self._min_free_bytes)
                held.clear()
        if not progress.bytes:
            raise _failed("it sent nothing")
        await settled(sink.write, bytes(held), self._min_free_bytes)
        return await settled(sink.finished)

    def _too_large(self) -> FileTooLarge:
        return FileTooLarge(
            f"the recording at this web address is larger than the {self._settings.max_mb} megabytes that are fetched"
        )


class LookedUp(Forbidden):
    """Forbidden for what the host resolves to, or because it does not; `began` is when that was asked."""

    def __init__(self, reason: str, began: float) -> None:
        super().__init__(reason)
        self.began = began


class Passing(Exception):
    """A failure that may be gone in a second."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Progress:
    """What the log will say of one fetch."""

    host: str = "-"
    bytes: int = 0
    attempts: int = 0
    reason: str = "-"


class Sink:
    """The file that a body goes to. Everything blocks."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.restart()

    def restart(self) -> None:
        """Forget what an attempt before this one wrote."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, block: bytes, min_free_bytes: int) -> None:
        """Raises StorageFull when the disk is full, or would have less than `min_free_bytes` left."""
        require_free_space(self._path.parent, len(block), min_free_bytes)
        with full_disk_told():
            self._file.write(block)
        self._hash.update(block)
        self._size += len(block)

    def finished(self) -> Fetched:
        with full_disk_told():
            self._file.close()
        return Fetched(self._path, self._size, self._hash.hexdigest())


def resolved(host: str, port: int) -> list[str]:
    """What the system's resolver says; blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


async def settled(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it in a thread and see its end even when cancelled: a file is not closed while a thread writes to it."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # seen: what was cancelled has no use for it
        raise


@contextmanager
def _logged() -> Iterator[Progress]:
    """One line for the operator, whatever comes of it. The host only: the rest of the address may hold secrets."""
    progress = Progress()
    began = time.monotonic()
    outcome = "given up"
    try:
        yield progress
        outcome = "ok"
    except SpeechError as error:
        outcome = error.code
        if isinstance(error, DownloadFailed):
            progress.reason = error.message.rpartition(": ")[2]
        raise
    finally:
        logger.info(
            "fetch host=%s outcome=%s bytes=%d seconds=%.2f attempts=%d reason=%s",
            *(progress.host, outcome, progress.bytes, time.monotonic() - began, progress.attempts, progress.reason),
        )


def _failed(reason: str) -> DownloadFailed:
    return DownloadFailed(f"the recording could not be fetched from its web address: {reason}")


def _require_short_head(response: httpx.Response) -> None:
    """httpcore bounds a head only until it is complete: what comes in one read may be longer."""
    pairs = response.headers.raw
    if len(pairs) > MAX_HEADERS or sum(len(name) + len(value) for name, value in pairs) > MAX_HEADER_BYTES:
        raise _failed("the head of its answer is too long")


def _require_audio(response: httpx.Response) -> None:
    """Raise unless the head of the answer is one of a whole recording. What it says is not repeated to anybody."""
    status, headers = response.status_code, response.headers
    if status >= SERVER_ERROR:
        raise Passing(f"it answered {status}", retry_after_s(headers.get("retry-after")))
    if status != OK:
        raise _failed(f"it answered {status}")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise _failed("it sent its answer compressed, which it was asked not to")
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_audio = media_type.startswith(("audio/", "video/")) and media_type not in PLAYLISTS
    if not is_audio and media_type not in AUDIO_TYPES:
        raise _failed("what it sent is not audio")


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trusted() -> ssl.SSLContext:
    """The certificates that httpx brings, and those of the system, where an operator's own would be."""
    import certifi
    import httpx  # noqa: F401

    context = ssl.create_default_context()
    context.load_verify_locations(cafile=certifi.where())
    return context
