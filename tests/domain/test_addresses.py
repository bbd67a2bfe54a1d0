"""Which addresses anybody may reach."""

from __future__ import annotations

import pytest

from horae_domain.addresses import may_reach, parse_address, parse_networks

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "2400:cb00::1",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_address_of_somebodys_own_is_not_reached(text):
    assert not may_reach(parse_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public_address_is_reached(text):
    assert may_reach(parse_address(text))


def test_network_that_is_allowed_is_reached_by_its_mapped_addresses_too():
    networks = parse_networks("127.0.0.0/8, fd00::/8,")
    assert may_reach(parse_address("127.0.0.1"), networks)
    assert may_reach(parse_address("::ffff:127.0.0.1"), networks)
    assert may_reach(parse_address("fd00::5"), networks)
    assert not may_reach(parse_address("10.0.0.1"), networks)
    assert not may_reach(parse_address("::1"), networks)


@pytest.mark.parametrize("text", ["fe80::1%eth0", "127.1", "0x7f000001", "2130706433", "host", ""])
def test_text_that_is_no_plain_address_is_refused(text):
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "all"])
def test_text_that_is_no_network_is_refused(text):
    with pytest.raises(ValueError):
        parse_networks(text)
