"""What the url of a store says."""

from __future__ import annotations

import pytest

from dispatcher.address import Address, parse_address
from dispatcher.settings import StoreConfig

KNOWN = {
    "redis://h": Address("redis", False, (("h", 6379),)),
    "rediss://user:p%40ss@h:7000/3": Address(
        "redis", True, (("h", 7000),), db=3, username="user", password="p@ss"
    ),
    "redis://:only@[::1]:7000": Address("redis", False, (("::1", 7000),), password="only"),
    "redis+sentinel://a,b:26380/mymaster": Address(
        "redis+sentinel", False, (("a", 26379), ("b", 26380)), "mymaster"
    ),
    "rediss+sentinel://u:p@[fe80::1]/m/2": Address(
        "redis+sentinel", True, (("fe80::1", 26379),), "m", 2, "u", "p"
    ),
    "redis+cluster://a,b:7001/": Address("redis+cluster", False, (("a", 6379), ("b", 7001))),
    "rediss+cluster://a": Address("redis+cluster", True, (("a", 6379),)),
}


@pytest.mark.parametrize("url", KNOWN)
def test_every_part_is_read(url: str) -> None:
    assert parse_address(url) == KNOWN[url]


@pytest.mark.parametrize("url", ["redis://", "redis+cluster", "http://a", "rediss+cluster://:0"])
def test_what_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must"):
        parse_address(url)


@pytest.mark.parametrize(
    "url", ["redis://u:secret@h:port", "redis+sentinel://u:secret@a", "x://u:secret@h"]
)
def test_a_refusal_keeps_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="url must") as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("embedded", "embedded in there"),
        ("redis://u:secret@h:7000/3", "redis://u:***@h:7000/3"),
        ("redis://:sec@ret@h", "redis://:***@h"),
        ("redis://h?password=secret&db=1", "redis://h?password=***&db=1"),
        ("redis+sentinel://u:secret@a,b/m", "redis+sentinel://u:***@a,b/m"),
    ],
)
def test_where_a_store_is_told_without_its_password(url: str, shown: str) -> None:
    assert StoreConfig(url=url, data_dir="there").address == shown
