from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from security.addresses import (
    ANY_HOST,
    NOT_PUBLIC_V4,
    Forbidden,
    HostRule,
    WebAddress,
    is_foreign,
    is_public,
    is_unicast,
    network_of,
    own_networks,
    require_permitted,
)

PUBLIC = """
    1.1.1.1 8.8.8.8 93.184.215.14 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1 192.0.1.1 198.17.255.255
    223.255.255.254 2001:4860:4860::8888 2606:4700::1111 2a00:1450:4001:80b::200e 64:ff9b::808:808
""".split()

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
    169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1
    192.52.193.1 192.88.99.1 192.168.0.1 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.250 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1
    64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808 100::1 2001::1 2001:0:7f00:1:: 2001:2::1
    2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::1 2002:808:808::1 2620:4f:8000::1 3fff::1 5f00::1
    4000::1 fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 fe80::1 fe80::1%eth0 2606:4700::1%eth0 febf::1 fec0::1 ff02::1
    ff0e::1 2606:4700::5efe:7f00:1 2606:4700::200:5efe:808:808
""".split()


@pytest.mark.parametrize("text", PUBLIC)
def test_addresses_of_the_open_internet_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_every_other_address_is_not(text: str) -> None:
    assert not is_public(ip_address(text))


@given(st.integers(0, 2**32 - 1))
def test_no_private_address_is_public_inside_another(number: int) -> None:
    inner = IPv4Address(number)
    forms = [number, 0xFFFF << 32 | number, 0x2002 << 112 | number << 80, 0x20010000 << 96 | number]
    forms += [0x20010000 << 96 | number ^ 0xFFFF_FFFF, 0x0064_FF9B_0001 << 80 | number]
    forms += [0x2606_4700 << 96 | 0x5EFE << 32 | number, 0x2606_4700 << 96 | 0x0200_5EFE << 32 | number]

    assert not any(is_public(IPv6Address(form)) for form in forms)
    assert is_public(IPv6Address(0x0064_FF9B << 96 | number)) == is_public(inner)


@pytest.mark.parametrize(
    ("address", "netmask", "network"),
    [
        ("8.8.8.20", "255.255.255.0", "8.8.8.0/24"),
        ("8.8.8.20", None, "8.8.8.20/32"),
        ("8.8.8.20", "255.0.0.0", "8.8.8.20/32"),
        ("2a00:1450::5", "ffff:ffff:ffff:ffff::", "2a00:1450::/64"),
        ("2a00:1450::5", None, "2a00:1450::/64"),
        ("2a00:1450::5", "ffff::", "2a00:1450::5/128"),
    ],
)
def test_neighbours_are_not_foreign_even_where_their_addresses_are_public(
    address: str, netmask: str | None, network: str
) -> None:
    near = list(network_of(address, netmask))

    assert near == [ip_network(network)]
    assert not is_foreign(ip_address(address), lambda: near)
    assert not is_foreign(near[0][-1], lambda: near)
    assert is_foreign(near[0][-1] + 1, lambda: near)
    assert not is_foreign(ip_address("10.0.0.1"), lambda: near)


def test_this_machine_is_near() -> None:
    assert any(network.is_loopback for network in own_networks())
    assert is_foreign(ip_address("1.1.1.1"))
    assert list(network_of("weird", None)) == []


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd12::1", "8.8.8.8", "100.64.0.1"])
def test_a_closed_network_may_be_opened(text: str) -> None:
    assert is_unicast(ip_address(text))


@pytest.mark.parametrize(
    "text",
    """169.254.169.254 100.100.100.200 fd00:ec2::254 fd20:ce::254 fe80::1 224.0.0.1 0.0.0.0 255.255.255.255 :: ff02::1
    ::ffff:127.0.0.1 fd12::1%eth0""".split(),
)
def test_metadata_and_groups_stay_closed_in_a_closed_network(text: str) -> None:
    assert not is_unicast(ip_address(text))


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "header"),
    [
        ("http://a.org", "a.org", 80, "/", "a.org"),
        ("HTTPS://A.org/B.wav?c=D#e", "a.org", 443, "/B.wav?c=D", "a.org"),
        ("https://a.org?x", "a.org", 443, "/?x", "a.org"),
        ("http://a.org:8080/", "a.org", 8080, "/", "a.org:8080"),
        ("https://a.org:443/", "a.org", 443, "/", "a.org"),
        ("https://a.org:80/", "a.org", 80, "/", "a.org:80"),
        ("http://1.2.3.4/", "1.2.3.4", 80, "/", "1.2.3.4"),
        ("http://[2606:4700:0::1111]:81/", "2606:4700::1111", 81, "/", "[2606:4700::1111]:81"),
        ("http://Müller.de/ä b.wav", "xn--mller-kva.de", 80, "/%C3%A4%20b.wav", "xn--mller-kva.de"),
        (
            "http://my_files.r3---sn.a.org/%2e%2e/@:x",
            "my_files.r3---sn.a.org",
            80,
            "/%2e%2e/@:x",
            "my_files.r3---sn.a.org",
        ),
    ],
)
def test_an_url_is_taken_apart(url: str, host: str, port: int, target: str, header: str) -> None:
    address = WebAddress.parse(url)

    assert (address.host, address.port, address.target, address.authority) == (host, port, target, header)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "a.org",
            "//a.org/",
            "http:/a.org",
            "http:a.org",
            "http://",
            "http:///x",
            "ftp://a.org/",
            "file:///etc/x",
        ),
        *("gopher://a.org/", "data:audio/wav,x", "javascript:1", " http://a.org/", "http\t://a.org/", "httpſ://a.org/"),
        *("http://u@a.org/", "http://u:p@a.org/", "http://@a.org/", "http://a.org:80@b.org/", "http://a.org\\@b.org/"),
        *("http://a.org:/", "http://a.org:0/", "http://a.org:080/", "http://a.org:99999x/", "http://a.org:-1/"),
        *("http://a.org:８０/", "http://a.org:123456/", "http://a.org.:80/", "http://a.org./", "http://a..org/"),
        *(
            "http://.a.org/",
            "http://-a.org/",
            "http://a-.org/",
            "http://a%2eorg/",
            "http://a b.org/",
            "http://a\n.org/",
        ),
        *("http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/"),
        *("http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.0x1/", "http://017700000001/", "http://0/"),
        *(
            "http://1.2.3.4./",
            "http://1.2.3.256/",
            "http://1.2.3.4.5/",
            "http://a.org.1/",
            "http://a.0x/",
            "http://0x/",
        ),
        *(
            "http://[::1/",
            "http://::1/",
            "http://[::1]x/",
            "http://[127.0.0.1]/",
            "http://[::1%25lo]/",
            "http://[::1%lo]/",
        ),
        *("http://[fe80::1%eth0]/", "http://[v1.x]/", "http://[]/", "http://a.org[::1]/", "http://[:::]/"),
        *(
            "http://１２７.０.０.１/",
            "http://127。0。0。1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://ｌocalhost/",
            "http://a．org/",
        ),
        *(
            "http://ex\u00adample.org/",
            "http://a\u200b.org/",
            "http://xn--zzzzzz999.de/",
            "http://xn--/",
            "http://☃.net/",
        ),
        *(f"http://{'a' * 64}.org/", f"http://{'a.' * 127}org/", f"http://a.org/{'x' * 4096}", "http://a.org/\ud800"),
    ],
)
def test_an_url_that_could_be_read_in_two_ways_is_not_read_at_all(url: str) -> None:
    with pytest.raises(Forbidden):
        WebAddress.parse(url)


def spellings() -> SearchStrategy[str]:
    """IPv4 addresses that are not public, as `inet_aton` reads them."""
    numbers = st.sampled_from(NOT_PUBLIC_V4).flatmap(lambda network: st.integers(int(network[0]), int(network[-1])))
    bases = st.lists(st.sampled_from(["{}", "0x{:x}", "0X{:X}", "0{:o}", "00{:o}"]), min_size=4, max_size=4)

    def spelt(number: int, parts: int, bases: list[str], end: str) -> str:
        octets = list(number.to_bytes(4, "big"))
        values = [*octets[: parts - 1], int.from_bytes(bytes(octets[parts - 1 :]), "big")]
        return ".".join(base.format(value) for base, value in zip(bases, values, strict=False)) + end

    return st.builds(spelt, numbers, st.integers(1, 4), bases, st.sampled_from(["", "."]))


@given(spellings())
def test_no_spelling_of_a_private_address_gets_through(host: str) -> None:
    try:
        address = WebAddress.parse(f"http://{host}/")
    except Forbidden:
        return

    assert address.literal is not None
    assert not is_public(address.literal)


@given(st.text(max_size=30))
def test_what_is_read_as_a_host_holds_no_separator(text: str) -> None:
    try:
        address = WebAddress.parse(f"http://{text}")
    except Forbidden:
        return

    assert address.authority.isascii()
    assert not set(address.authority) & set("/?#@\\% ")
    assert address.target.isascii()
    assert address.target.isprintable()
    assert " " not in address.target


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/b.wav", "http://a.org:8080/b.wav"),
        ("c.wav?d", "http://a.org:8080/x/c.wav?d"),
        ("//b.org/c", "http://b.org/c"),
        ("https://b.org", "https://b.org/"),
    ],
)
def test_a_redirect_is_read_from_where_it_was_met(location: str, leads_to: str) -> None:
    address = WebAddress.parse("http://a.org:8080/x/y.wav").joined(location)

    assert f"{address.scheme}://{address.authority}{address.target}" == leads_to


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://a.org/", "//u@b.org/", "http://[::1", "//127.1/", "\\b"]
)
def test_a_redirect_is_read_as_strictly(location: str) -> None:
    address = WebAddress.parse("http://a.org/")

    with pytest.raises(Forbidden):
        address.joined(location)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("a.org", "http://a.org/"),
        ("A.org", "https://a.org/"),
        ("*.a.org", "https://b.c.a.org/"),
        ("a.org:8080", "http://a.org:8080/"),
        ("a.org:*", "http://a.org:5000/"),
        ("*", "https://b.org/"),
        ("*:8000", "http://b.org:8000/"),
        ("[2606:4700:0::1]", "http://[2606:4700::1]/"),
        ("[2606:4700::1]:8080", "http://[2606:4700::1]:8080/"),
        ("nas.local:8080", "http://nas.local:8080/"),
        ("nas", "http://nas/"),
    ],
)
def test_an_allowed_host_may_be_asked(entry: str, url: str) -> None:
    require_permitted(WebAddress.parse(url), [HostRule.parse(entry)])


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("a.org", "http://b.a.org/"),
        ("a.org", "http://xa.org/"),
        ("a.org", "http://a.org:8080/"),
        ("*.a.org", "http://a.org/"),
        ("*.a.org", "http://xa.org/"),
        ("a.org:8080", "http://a.org/"),
        ("a.org:*", "http://a.org:22/"),
        ("*", "http://a.org:22/"),
        ("*:*", "http://a.org:70000/"),
        ("*", "http://nas/"),
        ("*.local", "http://nas.local/"),
        ("*:*", "http://localhost:8080/"),
        ("[2606:4700::1]", "http://[2606:4700::2]/"),
    ],
)
def test_no_other_host_and_port_may(entry: str, url: str) -> None:
    with pytest.raises(Forbidden):
        require_permitted(WebAddress.parse(url), [HostRule.parse(entry)])


@pytest.mark.parametrize(
    "host", "localhost LOCALHOST a.localhost nas printer.local metadata.google.internal router.home.arpa x.lan".split()
)
def test_names_that_only_mean_something_here_are_refused_before_they_are_looked_up(host: str) -> None:
    address = WebAddress.parse(f"http://{host}/")

    with pytest.raises(Forbidden):
        require_permitted(address, ANY_HOST)
    require_permitted(address, ANY_HOST, local_names=True)
