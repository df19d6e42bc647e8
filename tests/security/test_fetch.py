from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

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
from security.addresses import Address, is_foreign
from security.fetch import REFUSED, Fetched, Fetcher, Patience
from utils.files.atomic import strays

AUDIO = bytes(range(256)) * 4000
BOMB = gzip.compress(bytes(20_000_000))
Reply = bytes | Callable[[socket.socket], None]


def reply(status: int = 200, body: bytes = AUDIO, **headers: str) -> bytes:
    said = {"content_type": "audio/wav", "content_length": str(len(body))} | headers
    lines = [
        f"HTTP/1.1 {status} Because",
        *(f"{name.replace('_', '-')}: {value}" for name, value in said.items() if value),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def redirect(location: str, status: int = 302) -> bytes:
    return reply(status, b"", location=location)


class Site:
    """A server on a loopback port. Each path has its replies, of which the last one stays."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.replies: dict[str, Sequence[Reply]] = {}
        self.heads: list[str] = []
        self.ended = threading.Event()
        site = self

        class Visit(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError), tls.wrap_socket(self.request, server_side=True) if tls else self.request as it:
                    site.answer(it)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Visit)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    def answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return
            head += received
        self.heads.append(head.decode("latin-1"))
        replies = self.replies[self.paths[-1]]
        chosen = replies[min(self.paths.count(self.paths[-1]), len(replies)) - 1]
        if isinstance(chosen, bytes):
            connection.sendall(chosen)
        else:
            chosen(connection)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    def url(self, path: str = "/a.wav", host: str = "site.example") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    site = Site(tls)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.ended.set()
        site.server.shutdown()
        thread.join()
        site.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """A port that nobody may come near, on every address of this machine."""
    if socket.has_dualstack_ipv6():
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        listener = socket.create_server(("0.0.0.0", 0))
    with closing(listener):
        yield listener


def was_contacted(trap: socket.socket) -> bool:
    return bool(select.select([trap], [], [], 0)[0])


NAMES = {
    "site.example": ["127.0.0.1"],
    "other.example": ["127.0.0.1"],
    "inside.example": ["127.0.0.2"],
    "mixed.example": ["127.0.0.1", "127.0.0.2"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "empty.example": [],
}


def by_name(host: str, port: int) -> list[str]:
    if host not in NAMES:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")
    return NAMES[host]


def is_the_site(address: Address) -> bool:
    return address == IPv4Address("127.0.0.1")


QUICK: dict[str, Any] = {
    "tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # trusts nobody; reading those that are trusted takes 0.2 s
    "patience": Patience(lookup_s=1, connect_s=1, silence_s=0.3, refusal_s=(0.0,)),
    "backoff": Backoff(0.001, 0.002),
}


@contextmanager
def a_fetcher(resolve: Callable[[str, int], Sequence[str]] = by_name, **given: Any) -> Iterator[Fetcher]:
    arguments = {"is_allowed": is_the_site, **QUICK} | {key: given.pop(key) for key in given.keys() & ARGUMENTS}
    settings = FetchSettings(**{"allowed_hosts": ("*:*",), "timeout_s": 5, **given})
    fetcher = Fetcher(settings, resolve, **arguments)
    try:
        yield fetcher
    finally:
        fetcher.close()


ARGUMENTS = {"is_allowed", "tls", "patience", "backoff", "min_free_bytes"}


def fetched(url: str, folder: Path, resolve: Callable[[str, int], Sequence[str]] = by_name, **given: Any) -> bytes:
    """What is in the fetched file; nothing may be left in the folder."""

    async def content() -> bytes:
        with a_fetcher(resolve, **given) as fetcher:
            async with fetcher.fetch(url, folder) as got:
                read = got.path.read_bytes()
                assert got == Fetched(got.path, len(read), hashlib.sha256(read).hexdigest())
                return read

    try:
        return asyncio.run(content())
    finally:
        assert not folder.exists() or list(folder.iterdir()) == []


def refused(kind: type[SpeechError], url: str, folder: Path, **given: Any) -> str:
    with pytest.raises(kind) as caught:
        fetched(url, folder, **given)
    return caught.value.message


@pytest.mark.parametrize("media_type", ["audio/mpeg", "video/mp4", "application/ogg", "application/octet-stream", ""])
def test_a_recording_is_fetched_whole_and_gone_afterwards(media_type: str, site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav?key=1"] = [reply(content_type=media_type)]

    assert fetched(site.url("/a.wav?key=1#part"), tmp_path / "new" / "folder") == AUDIO


def test_what_is_being_fetched_has_the_name_of_a_temporary_file(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply()]

    async def name() -> str:
        with a_fetcher() as fetcher:
            async with fetcher.fetch(site.url(), tmp_path) as got:
                assert list(strays(tmp_path)) == []
                return got.path.name

    assert asyncio.run(name()).startswith(".tmp-")


def test_the_request_says_who_is_asked_and_no_more_than_it_must(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply()]

    fetched(site.url(), tmp_path)

    lines = site.heads[0].lower().split("\r\n")
    assert f"host: site.example:{site.port}" in lines
    assert "accept-encoding: identity" in lines
    assert {line.partition(":")[0] for line in lines[1:] if line} == {
        *("host", "user-agent", "accept", "accept-encoding", "connection")
    }


def test_a_body_in_chunks_and_one_that_ends_with_the_connection_are_whole(site: Site, tmp_path: Path) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (AUDIO[:7], AUDIO[7:])) + b"0\r\n\r\n"
    site.replies["/chunks"] = [reply(body=chunks, content_length="", transfer_encoding="chunked")]
    site.replies["/open"] = [reply(content_length="")]

    assert fetched(site.url("/chunks"), tmp_path) == AUDIO
    assert fetched(site.url("/open"), tmp_path) == AUDIO


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int, site: Site, tmp_path: Path) -> None:
    site.replies["/first"] = [redirect("/second", status)]
    site.replies["/second"] = [redirect(site.url(host="other.example"), status)]
    site.replies["/a.wav"] = [reply()]

    assert fetched(site.url("/first"), tmp_path) == AUDIO
    assert [f"host: {host}.example:{site.port}" in head.lower() for host, head in zip(
        ["site", "site", "other"], site.heads, strict=True)] == [True] * 3  # fmt: skip


def test_a_loop_of_redirects_ends(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [redirect("/b.wav")]
    site.replies["/b.wav"] = [redirect("/a.wav")]

    assert "redirects too often" in refused(DownloadFailed, site.url(), tmp_path, redirects=3)
    assert site.paths == ["/a.wav", "/b.wav", "/a.wav", "/b.wav"]


def test_a_redirect_that_names_no_target_is_a_failure(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(302, b"")]

    assert "nowhere" in refused(DownloadFailed, site.url(), tmp_path)


FORMS = [
    # this machine, in the ways that some resolver, library or browser reads it
    *("http://127.0.0.1:{port}/", "http://127.0.0.2:{port}/", "http://127.1:{port}/", "http://127.0.1:{port}/"),
    *("http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0x7f.0.0.1:{port}/", "http://0:{port}/"),
    *(
        "http://0177.0.0.1:{port}/",
        "http://017700000001:{port}/",
        "http://127.0.0.01:{port}/",
        "http://0.0.0.0:{port}/",
    ),
    *("http://127.0.0.1.:{port}/", "http://%31%32%37.0.0.1:{port}/", "http://127.0.0.1%2f:{port}/"),
    *(
        "http://127.0.0.1%00:{port}/",
        "http://127.0.0.1\t:{port}/",
        "http://127.0.0.1\r\n:{port}/",
        " http://127.0.0.1:{port}/",
    ),
    *("http://[::1]:{port}/", "http://[::]:{port}/", "http://[0:0:0:0:0:0:0:1]:{port}/", "http://[::1%25lo]:{port}/"),
    *("http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/", "http://[::127.0.0.1]:{port}/"),
    *("http://[64:ff9b::7f00:1]:{port}/", "http://[64:ff9b:1::7f00:1]:{port}/", "http://[2002:7f00:1::]:{port}/"),
    *(
        "http://[2001:0:7f00:1::]:{port}/",
        "http://[2606:4700::5efe:7f00:1]:{port}/",
        "http://[::ffff:0:7f00:1]:{port}/",
    ),
    *(
        "http://localhost:{port}/",
        "HTTP://LOCALHOST:{port}/",
        "http://localhost.:{port}/",
        "http://a.localhost:{port}/",
    ),
    *("http://localhost.localdomain:{port}/", "http://ip6-localhost:{port}/", "http://ｌocalhost:{port}/"),
    *("http://１２７.０.０.１:{port}/", "http://127。0。0。1:{port}/", "http://①②⑦.⓪.⓪.①:{port}/"),
    # two hosts in one
    *(
        "http://u@127.0.0.1:{port}/",
        "http://site.example@127.0.0.1:{port}/",
        "http://site.example:80@127.0.0.1:{port}/",
    ),
    *(
        "http://127.0.0.1:{port}\\@site.example/",
        "http://site.example\\@127.0.0.1:{port}/",
        "http://[::1]site.example/",
    ),
    *("http:127.0.0.1:{port}/", "http:/127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http:///127.0.0.1:{port}/"),
    # the networks around it
    *("http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.0.1/", "http://100.64.0.1/"),
    *("http://169.254.1.1/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fec0::1]/", "http://[fc00::1]/"),
    *(
        "http://[::ffff:10.0.0.1]/",
        "http://[2002:a00:1::]/",
        "http://[64:ff9b::a00:1]/",
        "http://nas/",
        "http://nas.lan/",
    ),
    # what clouds tell their machines
    *("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/"),
    *("http://100.100.100.200/", "http://168.63.129.16/", "http://192.0.0.192/", "http://metadata.google.internal/"),
    *("http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://[64:ff9b::a9fe:a9fe]/"),
    # nobody
    *(
        "http://224.0.0.1/",
        "http://239.255.255.250/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://[ff02::1]/",
    ),
    *("http://192.0.2.1/", "http://198.18.0.1/", "http://203.0.113.1/", "http://[2001:db8::1]/", "http://[100::1]/"),
    # other services
    *(
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "data:audio/wav,",
        "dict://127.0.0.1/",
    ),
    *("http://8.8.8.8:22/", "http://8.8.8.8:25/", "http://8.8.8.8:0/", "http://8.8.8.8:65536/", "http://8.8.8.8:080/"),
]


@pytest.mark.parametrize("form", FORMS)
def test_an_address_that_is_not_public_is_refused_and_not_contacted(
    form: str, trap: socket.socket, tmp_path: Path
) -> None:
    url = form.replace("{port}", str(trap.getsockname()[1]))

    def everything_is_here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    message = refused(DownloadRefused, url, tmp_path, resolve=everything_is_here, is_allowed=None)

    assert message == REFUSED
    assert not was_contacted(trap)


@pytest.mark.parametrize("form", FORMS)
def test_a_redirect_to_such_an_address_is_refused_and_not_followed(
    form: str, site: Site, trap: socket.socket, tmp_path: Path
) -> None:
    target = form.replace("{port}", str(trap.getsockname()[1])).replace("\r\n", "")
    site.replies["/a.wav"] = [redirect(target.encode().decode("latin-1"))]
    asked = count()

    def as_if_the_first_were_public(address: Address) -> bool:
        return next(asked) == 0 or is_foreign(address)

    message = refused(DownloadRefused, site.url(), tmp_path, is_allowed=as_if_the_first_were_public)

    assert message == REFUSED
    assert site.paths == ["/a.wav"]
    assert not was_contacted(trap)


@pytest.mark.parametrize("host", ["inside", "mixed", "mapped", "empty", "nobody"])
def test_every_address_of_a_host_must_be_public_and_all_refusals_read_alike(
    host: str, trap: socket.socket, tmp_path: Path
) -> None:
    url = f"http://{host}.example:{trap.getsockname()[1]}/"

    assert refused(DownloadRefused, url, tmp_path) == REFUSED
    assert not was_contacted(trap)


def test_a_name_that_changes_its_address_later_gains_nothing(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(503), reply()]
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"]])

    def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    assert refused(DownloadRefused, site.url(), tmp_path, resolve=rebinding) == REFUSED
    assert len(site.paths) == 1


def test_a_name_is_looked_up_once_for_a_request(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [redirect("/b.wav")]
    site.replies["/b.wav"] = [reply()]
    lookups: list[str] = []

    def counting(host: str, port: int) -> list[str]:
        lookups.append(host)
        return ["127.0.0.1"]

    assert fetched(site.url(), tmp_path, resolve=counting) == AUDIO
    assert lookups == ["site.example", "site.example"]


def test_a_name_with_several_addresses_is_asked_at_the_one_that_answers(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply()]

    def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.3", "127.0.0.4", "127.0.0.1"]  # nobody listens at the first two

    assert fetched(site.url(), tmp_path, resolve=resolve, is_allowed=lambda address: True) == AUDIO


@pytest.mark.parametrize("host", ["inside.example", "nobody.example", "slow.example"])
def test_a_refusal_takes_as_long_whether_a_name_exists_or_not(host: str, tmp_path: Path) -> None:
    release = threading.Event()

    def resolve(name: str, port: int) -> list[str]:
        if name == "slow.example":
            release.wait(0.05)
        return by_name(name, port)

    began = time.monotonic()
    refused(
        *(DownloadRefused, f"http://{host}/", tmp_path),
        resolve=resolve,
        patience=Patience(refusal_s=(0.3, 5.0)),
        allowed_hosts=(),
    )

    assert 0.3 <= time.monotonic() - began < 1.0


def test_a_resolver_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    release = threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        release.wait(10)
        return ["127.0.0.1"]

    async def attempt() -> str:
        with a_fetcher(hanging, patience=Patience(lookup_s=0.05, refusal_s=(0.0,))) as fetcher:
            with pytest.raises(DownloadRefused) as caught:
                async with fetcher.fetch("http://site.example/", tmp_path):
                    pass
            release.set()
            return caught.value.message

    began = time.monotonic()
    assert asyncio.run(attempt()) == REFUSED
    assert time.monotonic() - began < 3


def test_hosts_that_are_not_on_the_list_are_not_even_looked_up(tmp_path: Path) -> None:
    def forbidden(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    for url in ("http://b.org/", "http://a.org:8080/", "http://1.1.1.1/", "http://x.a.org/"):
        assert refused(DownloadRefused, url, tmp_path, resolve=forbidden, allowed_hosts=("a.org",)) == REFUSED


def test_a_host_on_the_list_must_be_public_all_the_same(trap: socket.socket, tmp_path: Path) -> None:
    port = trap.getsockname()[1]
    url = f"http://localhost:{port}/"

    refused(
        DownloadRefused,
        url,
        tmp_path,
        is_allowed=None,
        allowed_hosts=("localhost:*",),
        resolve=lambda *_: ["127.0.0.1"],
    )

    assert not was_contacted(trap)


def test_a_closed_network_is_opened_by_a_setting(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply()]
    opened: dict[str, Any] = {"is_allowed": None, "allow_private": True}

    assert fetched(site.url(host="127.0.0.1"), tmp_path, **opened) == AUDIO
    assert fetched(site.url(host="localhost"), tmp_path, resolve=lambda *_: ["127.0.0.1"], **opened) == AUDIO
    assert refused(DownloadRefused, "http://169.254.169.254/", tmp_path, **opened) == REFUSED


def test_nothing_is_fetched_where_that_is_switched_off(site: Site, tmp_path: Path) -> None:
    assert "no recordings" in refused(DownloadRefused, site.url(), tmp_path, enabled=False)
    assert not site.heads


@pytest.mark.parametrize(
    "entry", ["a.org:22", "a.org:0", "a.org:65536", "*.*", "http://a.org", "a/b", "[::x]", "[:::]", ""]
)
def test_an_entry_that_means_no_host_stops_the_start(entry: str) -> None:
    with pytest.raises(ValidationError):
        FetchSettings(allowed_hosts=(entry,))


def drip(connection: socket.socket, ended: threading.Event) -> None:
    while not ended.wait(0.02):
        connection.sendall(b"x")


def test_a_body_that_drips_is_cut_at_the_deadline(site: Site, tmp_path: Path) -> None:
    def slow(connection: socket.socket) -> None:
        connection.sendall(reply(body=b"", content_length="1000000"))
        drip(connection, site.ended)

    site.replies["/a.wav"] = [slow]
    began = time.monotonic()

    assert "not whole after 0.4 s" in refused(DownloadFailed, site.url(), tmp_path, timeout_s=0.4)
    assert time.monotonic() - began < 2
    assert len(site.paths) == 1


def test_a_head_that_drips_is_cut_at_the_deadline(site: Site, tmp_path: Path) -> None:
    def slow(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        drip(connection, site.ended)

    site.replies["/a.wav"] = [slow]

    assert "not whole after" in refused(DownloadFailed, site.url(), tmp_path, timeout_s=0.3)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n", reply()[:-10]])
def test_silence_ends_an_attempt_and_the_next_may_be_good(begun: bytes, site: Site, tmp_path: Path) -> None:
    def silent(connection: socket.socket) -> None:
        connection.sendall(begun)
        site.ended.wait(2)

    site.replies["/a.wav"] = [silent, reply()]

    assert fetched(site.url(), tmp_path, patience=Patience(silence_s=0.1)) == AUDIO


def test_an_endless_body_is_cut_at_the_limit(site: Site, tmp_path: Path) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(reply(body=b"", content_length=""))
        while not site.ended.is_set():
            sent += connection.send(AUDIO)

    site.replies["/a.wav"] = [endless]

    assert "1 megabytes" in refused(FileTooLarge, site.url(), tmp_path, max_mb=1)
    assert len(site.paths) == 1
    assert sent < 50_000_000  # what fits between the two


@pytest.mark.parametrize("declared", ["1000001", "9" * 19])
def test_a_body_that_declares_to_be_too_large_is_not_read(declared: str, site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(body=b"x", content_length=declared)]

    refused(FileTooLarge, site.url(), tmp_path, max_mb=1)


def test_a_body_of_just_the_limit_is_taken(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(body=b"x" * 1_000_000)]
    site.replies["/b.wav"] = [reply(body=b"x" * 1_000_001, content_length="")]

    assert len(fetched(site.url(), tmp_path, max_mb=1)) == 1_000_000
    refused(FileTooLarge, site.url("/b.wav"), tmp_path, max_mb=1)


def test_a_body_shorter_than_declared_is_no_recording(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(content_length=str(len(AUDIO) + 1))]

    assert "broke off" in refused(DownloadFailed, site.url(), tmp_path, attempts=2)
    assert len(site.paths) == 2


def test_of_a_body_longer_than_declared_the_rest_is_not_taken(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(content_length="1000")]

    assert fetched(site.url(), tmp_path) == AUDIO[:1000]


def reset_midway(connection: socket.socket) -> None:
    connection.sendall(reply()[:500_000])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@pytest.mark.parametrize(
    "first", [reset_midway, b"", b"no HTTP\r\n\r\n", reply(500), reply(502), reply(503), reply(504)]
)
def test_a_failure_that_passes_is_tried_again(first: Reply, site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [first, first, reply()]

    assert fetched(site.url(), tmp_path) == AUDIO
    assert len(site.paths) == 3


def test_a_failure_that_does_not_pass_is_told_after_the_last_attempt(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(503)]

    assert "it answered 503" in refused(DownloadFailed, site.url(), tmp_path, attempts=3)
    assert len(site.paths) == 3


def test_a_server_that_is_not_there_is_a_failed_download(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    assert "none was made" in refused(DownloadFailed, f"http://site.example:{port}/", tmp_path)


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 400, 401, 403, 404, 410, 418, 429])
def test_an_answer_that_will_not_change_is_not_asked_for_again(status: int, site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(status, b"" if status in (204, 304) else AUDIO)]

    assert f"it answered {status}" in refused(DownloadFailed, site.url(), tmp_path)
    assert len(site.paths) == 1


def test_retry_after_is_kept_to(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(503, retry_after="0"), reply()]

    assert fetched(site.url(), tmp_path, backoff=Backoff(60, 60)) == AUDIO


def test_pauses_double_up_to_a_limit_and_are_never_the_same_for_all() -> None:
    backoff = Backoff(1.0, 4.0)

    pauses = [[backoff.pause_s(failures) for _ in range(50)] for failures in (1, 2, 3, 4, 1000)]

    assert all(
        whole / 2 <= pause <= whole for whole, some in zip([1, 2, 4, 4, 4], pauses, strict=True) for pause in some
    )
    assert all(len(set(some)) > 1 for some in pauses)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *[(None, None), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("1" * 10, None), ("٣", None)],
        *[("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None)],
        *[("Mon, 23 Nov 2026 00:01:00 GMT", 60.0), ("Sun, 22 Nov 2026 00:00:00 -0000", 0.0)],
    ],
)
def test_a_retry_after_header_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, datetime(2026, 11, 23, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("later", ["60", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_one_that_lies_beyond_the_deadline_is_not_waited_for(later: str, site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(503, retry_after=later), reply()]
    began = time.monotonic()

    assert "it answered 503" in refused(DownloadFailed, site.url(), tmp_path)
    assert len(site.paths) == 1
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "media_type",
    "text/html text/plain;charset=utf-8 application/json image/png audio/x-mpegurl Audio/MPEGURL x".split(),
)
def test_what_is_not_audio_by_its_type_is_not_read(media_type: str, site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(content_type=media_type)]

    message = refused(DownloadFailed, site.url(), tmp_path)

    assert "not audio" in message
    assert media_type not in message
    assert len(site.paths) == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
def test_a_compressed_answer_is_not_unpacked(encoding: str, site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(body=BOMB, content_encoding=encoding)]

    assert "compressed" in refused(DownloadFailed, site.url(), tmp_path)


@pytest.mark.parametrize("headers", [{f"x{i}": "y" for i in range(200)}, {"x": "y" * 40_000}, {"x": "y" * 200_000}])
def test_a_head_that_is_too_long_is_not_taken(headers: dict[str, Any], site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(**headers)]

    refused(DownloadFailed, site.url(), tmp_path)


def test_an_empty_answer_is_no_recording(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply(body=b"")]

    assert "sent nothing" in refused(DownloadFailed, site.url(), tmp_path)


def test_a_full_disk_is_told(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply()]

    refused(StorageFull, site.url(), tmp_path, min_free_bytes=10**18)


def test_no_proxy_of_the_environment_is_asked(
    site: Site, trap: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.replies["/a.wav"] = [reply()]
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap.getsockname()[1]}")

    assert fetched(site.url(), tmp_path) == AUDIO
    assert not was_contacted(trap)


@pytest.mark.parametrize("sent", [b"", reply(body=b"", content_length="")])
def test_a_cancelled_download_leaves_no_file_and_frees_its_place(sent: bytes, site: Site, tmp_path: Path) -> None:
    met = threading.Event()

    def begun(connection: socket.socket) -> None:
        connection.sendall(sent)
        met.set()
        if not sent:
            site.ended.wait(5)
        while not site.ended.is_set():
            connection.sendall(AUDIO)

    site.replies["/a.wav"] = [begun]
    site.replies["/b.wav"] = [reply()]

    def left() -> list[Path]:
        return list(tmp_path.iterdir())

    async def content() -> bytes:
        async def one(path: str) -> bytes:
            async with fetcher.fetch(site.url(path), tmp_path) as got:
                return got.path.read_bytes()

        with a_fetcher(at_once=1, max_mb=100_000, patience=Patience()) as fetcher:
            task = asyncio.create_task(one("/a.wav"))
            await asyncio.to_thread(met.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert left() == []
            return await one("/b.wav")

    assert asyncio.run(content()) == AUDIO


def test_a_download_cancelled_at_any_step_leaves_no_file(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [redirect("/b.wav")]
    site.replies["/b.wav"] = [reply()]

    def left() -> list[str]:
        return [path.name for path in tmp_path.iterdir()]

    async def is_cancelled(fetcher: Fetcher, steps: int, seconds: float) -> bool:
        async def one() -> None:
            async with fetcher.fetch(site.url(), tmp_path):
                pass

        task = asyncio.create_task(one())
        for _ in range(steps):
            await asyncio.sleep(0)
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert left() == []
        return task.cancelled()

    async def at_every_step() -> list[bool]:
        with a_fetcher(at_once=1) as fetcher:
            early = [await is_cancelled(fetcher, steps, 0) for steps in range(40)]
            return early + [await is_cancelled(fetcher, 0, index * 0.0005) for index in range(80)]

    assert any(asyncio.run(at_every_step()))


def test_the_file_goes_too_when_the_one_who_wanted_it_fails(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [reply()]

    async def use() -> None:
        with a_fetcher() as fetcher:
            async with fetcher.fetch(site.url(), tmp_path):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(use())
    assert list(tmp_path.iterdir()) == []


def test_no_more_are_fetched_at_once_than_allowed(site: Site, tmp_path: Path) -> None:
    lock = threading.Lock()
    now = most = 0

    def watched(connection: socket.socket) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        site.ended.wait(0.02)
        with lock:
            now -= 1
        connection.sendall(reply())

    site.replies["/a.wav"] = [watched]

    async def ten() -> list[str]:
        async def one() -> str:
            async with fetcher.fetch(site.url(), tmp_path) as got:
                return got.sha256

        with a_fetcher(at_once=2) as fetcher:
            return await asyncio.gather(*(one() for _ in range(10)))

    assert asyncio.run(ten()) == [hashlib.sha256(AUDIO).hexdigest()] * 10
    assert most == 2


def test_who_finds_no_place_in_time_is_told_to_come_later(site: Site, tmp_path: Path) -> None:
    site.replies["/a.wav"] = [lambda connection: drip(connection, site.ended)]

    async def three() -> tuple[BaseException | None, ...]:
        async def one() -> None:
            async with fetcher.fetch(site.url(), tmp_path):
                pass

        with a_fetcher(at_once=1, timeout_s=0.2) as fetcher:
            return await asyncio.gather(one(), one(), one(), return_exceptions=True)

    first, *others = asyncio.run(three())

    assert isinstance(first, DownloadFailed)  # and who comes next may have its place after it, but not the third
    assert any(isinstance(other, ServiceOverloaded) for other in others)


def test_the_log_has_one_line_for_each_fetch_and_no_secret(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="security")
    caplog.set_level(logging.INFO)
    site.replies["/a.wav?key=s3cret"] = [reply(503), reply()]
    site.replies["/b.wav?key=s3cret"] = [reply(404)]

    fetched(site.url("/a.wav?key=s3cret"), tmp_path)
    refused(DownloadFailed, site.url("/b.wav?key=s3cret"), tmp_path)
    refused(DownloadRefused, "http://inside.example/?key=s3cret", tmp_path)
    refused(DownloadRefused, "http://u:s3cret@site.example/", tmp_path)

    lines = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert [line.split(" seconds=")[0] for line in lines] == [
        f"fetch host=site.example outcome=ok bytes={len(AUDIO)}",
        "fetch host=site.example outcome=DOWNLOAD_FAILED bytes=0",
        "fetch host=inside.example outcome=DOWNLOAD_REFUSED bytes=0",
        "fetch host=- outcome=DOWNLOAD_REFUSED bytes=0",
    ]
    assert [line.split(" attempts=")[1] for line in lines] == [
        *("2 reason=-", "1 reason=it answered 404", "1 reason=not public", "0 reason=malformed")
    ]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for site.example that signs itself, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=DNS:site.example"),
            *("-keyout", "key.pem", "-out", "crt.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def secure(certificate: Path) -> Iterator[tuple[Site, ssl.SSLContext, list[str | None]]]:
    """A server with that certificate, who trusts it, and the names that it was asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "crt.pem", certificate / "key.pem")
    names: list[str | None] = []
    context.sni_callback = lambda connection, name, context: names.append(name)
    with ExitStack() as kept:
        site = kept.enter_context(serving(context))
        site.replies["/a.wav"] = [reply()]
        yield site, ssl.create_default_context(cafile=certificate / "crt.pem"), names


def test_a_certificate_is_checked_for_the_name_and_not_the_address(
    secure: tuple[Site, ssl.SSLContext, list[str | None]], tmp_path: Path
) -> None:
    site, trusting, names = secure
    url = site.url().replace("http:", "https:")

    assert fetched(url, tmp_path, tls=trusting) == AUDIO
    assert names == ["site.example"]


def test_a_certificate_of_another_name_or_of_nobody_is_not_taken(
    secure: tuple[Site, ssl.SSLContext, list[str | None]], tmp_path: Path
) -> None:
    site, trusting, names = secure
    url = site.url().replace("http:", "https:")

    assert "certificate" in refused(DownloadFailed, url.replace("site.", "other."), tmp_path, tls=trusting)
    assert "certificate" in refused(DownloadFailed, url, tmp_path, tls=None)  # what the server trusts by itself
    assert names == ["other.example", "site.example"]
    assert not site.heads
