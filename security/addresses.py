"""Which web addresses may be asked: what an URL says, and where the addresses behind a host lead.

Nothing here asks the network. An URL is taken apart by one strict grammar, and what is sent later is put together from
its parts, so that no two parsers can read two hosts in it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, urljoin

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 4096  # characters; signed addresses of object stores have some two thousand
MAX_HOST = 253
PORTS = {"http": 80, "https": 443}
FIRST_UNPRIVILEGED_PORT = 1024

URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.ASCII)
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@%]+)(?::([1-9][0-9]{0,4}))?", re.IGNORECASE | re.ASCII)
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as a last label it makes the host an IPv4 address for many a reader
SAFE_IN_TARGET = "%/:=&?~+!$,;'@()*[]"  # what is quoted already, and what separates the parts

# Names that a resolver answers from this machine or its network, whatever the addresses are.
LOCAL_DOMAINS = (
    *("localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa"),
    *("onion", "alt", "invalid"),
)

# The registries of special-purpose addresses (IANA), 2025. `ipaddress.is_global` alone lets multicast, site-local and
# all forms that carry another address inside them pass.
NOT_PUBLIC_V4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # looks public, but is what an Azure machine is served its own secrets from
        ),
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")  # all else is local, mapped, compatible, multicast or nobody's
NOT_PUBLIC_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols: Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",  # a sink for reverse look-ups
            "3fff::/20",  # documentation
        ),
    )
)
NAT64 = IPv6Network("64:ff9b::/96")  # how a network without IPv4 reaches it: as public as the address inside
ISATAP = (0x00005EFE, 0x02005EFE)  # third quarter of an IPv6 address: the fourth is an IPv4 address

PRIVATE = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"),
    )
)
# Link-local ones are in no list above. These are metadata services of clouds among the private addresses.
METADATA = tuple(map(ip_network, ("100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::/32", "fd00:42::42/128")))
WIDEST_NEIGHBOURHOOD = {4: 16, 6: 48}  # bits; a wider network of an interface is no sign of who is near


class Forbidden(Exception):
    """What must not be asked. The reason is for the log: told to a client, it would describe the network."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_public(address: Address) -> bool:
    """True for unicast addresses of the open Internet that carry no other address inside them, but for NAT64."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in NOT_PUBLIC_V4)
    if address.scope_id is not None:
        return False
    if address in NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return (
        address in GLOBAL_UNICAST
        and address.is_global
        and (int(address) >> 32) & 0xFFFF_FFFF not in ISATAP
        and not any(address in network for network in NOT_PUBLIC_V6)
    )


def is_unicast(address: Address) -> bool:
    """True for public and private addresses, loopback included; never link-local ones or metadata of a cloud."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    is_private = any(address in network for network in PRIVATE)
    return is_public(address) or (is_private and not any(address in network for network in METADATA))


def own_networks() -> list[Network]:
    """The networks of this machine's interfaces; only its own address of one too wide to tell who is near."""
    import psutil

    found: list[Network] = []
    for interface in psutil.net_if_addrs().values():
        for entry in interface:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                found.extend(network_of(entry.address.partition("%")[0], entry.netmask))
    return found


def network_of(text: str, netmask: str | None) -> Iterator[Network]:
    """The network of an interface with that address and mask, as `psutil` writes them; none if they make no sense."""
    try:
        address = ip_address(text)
        bits = bin(int(ip_address(netmask))).count("1") if netmask else (64 if address.version == 6 else 32)
    except ValueError:  # a system that writes them in a way of its own
        return
    if bits < WIDEST_NEIGHBOURHOOD[address.version]:
        bits = address.max_prefixlen
    yield ip_network((address, bits), strict=False)


def is_foreign(address: Address, near: Callable[[], Sequence[Network]] = own_networks) -> bool:
    """True for public addresses outside the networks that this machine is in.

    A neighbour has a public IPv6 address too, and a firewall that only lets us through. Blocks for some 0.1 ms.
    """
    return is_public(address) and not any(address in network for network in near())


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An URL that was understood. All parts are ASCII; `host` is lower case, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int
    target: str  # path and query
    literal: Address | None  # the host, if it is an address

    @classmethod
    def parse(cls, url: str) -> WebAddress:
        """Raises Forbidden for whatever is not plainly http(s)://host[:port]/…"""
        if len(url) > MAX_URL or not url.isprintable() or "\\" in url:
            raise Forbidden("malformed")
        parts = URL.fullmatch(url)
        if parts is None:
            raise Forbidden("scheme")
        authority = AUTHORITY.fullmatch(parts[2])
        if authority is None:
            raise Forbidden("malformed")  # a user name, a zone, a percent sign, no host, port 0
        scheme = parts[1].lower()
        host, literal = _host(authority[1])
        port = int(authority[2]) if authority[2] else PORTS[scheme]
        target = parts[3] if parts[3].startswith("/") else f"/{parts[3]}"
        return cls(scheme, host, port, quote(target, safe=SAFE_IN_TARGET), literal)

    def joined(self, location: str) -> WebAddress:
        """Where a redirect from here leads; raises Forbidden as `parse` does."""
        try:
            return self.parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", location))
        except ValueError as error:
            raise Forbidden("malformed") from error

    @property
    def authority(self) -> str:
        """As the Host header wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_local_name(self) -> bool:
        """True for names that only mean something here: without a dot, or below a domain for local use."""
        is_local = "." not in self.host or self.host.endswith(tuple(f".{domain}" for domain in LOCAL_DOMAINS))
        return self.literal is None and is_local


def _host(text: str) -> tuple[str, Address | None]:
    if text.startswith("["):
        try:
            address: Address = IPv6Address(text[1:-1])
        except AddressValueError as error:
            raise Forbidden("malformed") from error
        return address.compressed, address
    if len(text) > MAX_HOST:
        raise Forbidden("malformed")
    host = _in_ascii(text.lower())
    labels = host.split(".")
    if not all(LABEL.fullmatch(label) for label in labels) or len(host) > MAX_HOST:
        raise Forbidden("malformed")  # a dot at the end among them
    if not NUMERIC.fullmatch(labels[-1]):
        return host, None
    try:
        address = IPv4Address(host)  # four decimal numbers and nothing else, none with a zero in front
    except AddressValueError as error:
        raise Forbidden("malformed") from error
    return host, address


def _in_ascii(host: str) -> str:
    """The host as DNS knows it (IDNA 2008, without any mapping: a full-width digit is no digit)."""
    if host.isascii() and "xn--" not in host:
        return host
    import idna

    try:
        return idna.encode(host, strict=True).decode("ascii")
    except UnicodeError as error:
        raise Forbidden("malformed") from error


@dataclass(frozen=True, slots=True)
class HostRule:
    """An entry of the allowed hosts: a host, `*.` and a domain for all that is below it, or `*`; and a port."""

    host: str
    port: int | None  # None: 80, 443 and all from 1024 on
    has_port: bool

    @classmethod
    def parse(cls, entry: str) -> HostRule:
        """Takes what the settings let pass: `host`, `host:port`, `host:*`, IPv6 addresses in brackets."""
        host, colon, port = entry.lower().rpartition(":")
        if not colon or port.endswith("]"):
            host, colon, port = entry.lower(), "", ""
        if host.startswith("["):
            host = ip_address(host[1:-1]).compressed
        return cls(host, int(port) if port.isdigit() else None, bool(colon))

    def allows(self, address: WebAddress) -> bool:
        return self._has_host(address) and self._has_port(address.port)

    def names(self, address: WebAddress) -> bool:
        """True if it is this very host that the entry is about, not all of a kind."""
        return self.host == address.host and self.allows(address)

    def _has_host(self, address: WebAddress) -> bool:
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return address.literal is None and address.host.endswith(self.host[1:])
        return address.host == self.host

    def _has_port(self, port: int) -> bool:
        if not self.has_port:
            return port in PORTS.values()
        if self.port is None:
            return port in PORTS.values() or FIRST_UNPRIVILEGED_PORT <= port <= 65_535
        return port == self.port


ANY_HOST = (HostRule.parse("*"),)


def require_permitted(address: WebAddress, rules: Sequence[HostRule], *, local_names: bool = False) -> None:
    """Raise Forbidden unless a rule allows host and port. A local name needs a rule of its own, or `local_names`."""
    if not any(rule.allows(address) for rule in rules):
        raise Forbidden("not allowed")
    if address.is_local_name and not local_names and not any(rule.names(address) for rule in rules):
        raise Forbidden("local name")
