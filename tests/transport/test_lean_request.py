"""The bytes of a request."""

from __future__ import annotations

import pytest

from dispatcher import __version__
from dispatcher.exchange import HttpRequest
from dispatcher.transport.request import Target

AGENT = f"User-Agent: dispatcher/{__version__}"


def lines(url: str, *, method: str = "POST", body: bytes = b"", **headers: str) -> list[str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Target(url).encode(HttpRequest(method, url, named, body, 1.0)).decode().split("\r\n")


def test_a_whole_request() -> None:
    assert lines("https://api.test/v1?a=b", body=b"To=1", Content_Type="text/x") == [
        "POST /v1?a=b HTTP/1.1",
        "Host: api.test",
        "Accept-Encoding: identity",
        "Content-Type: text/x",
        AGENT,
        "Content-Length: 4",
        "",
        "To=1",
    ]


def test_framing_is_not_for_the_caller() -> None:
    sent = lines(
        "http://h/", body=b"x", Content_Length="9", transfer_encoding="chunked", Connection="close"
    )
    assert sent == [
        "POST / HTTP/1.1",
        "Host: h",
        "Accept-Encoding: identity",
        AGENT,
        "Content-Length: 1",
        "",
        "x",
    ]


@pytest.mark.parametrize(
    ("url", "path", "host"),
    [
        ("http://h", "/", "h"),
        ("http://h:80/", "/", "h"),
        ("https://h:443/", "/", "h"),
        ("http://h:443/", "/", "h:443"),
        ("http://h?a=1", "/?a=1", "h"),
        ("http://h/a b/ä?ü=%20#top", "/a%20b/%C3%A4?%C3%BC=%20", "h"),
        ("http://[::1]:8080/", "/", "[::1]:8080"),
        ("http://Bücher.test/", "/", "xn--bcher-kva.test"),
    ],
)
def test_where_it_goes(url: str, path: str, host: str) -> None:
    assert lines(url)[:2] == [f"POST {path} HTTP/1.1", f"Host: {host}"]


def test_an_empty_body_has_a_length_only_where_one_is_expected() -> None:
    assert "Content-Length: 0" in lines("http://h/")
    assert not any("Content-Length" in line for line in lines("http://h/", method="GET"))


def test_a_login_in_the_url_is_sent_unless_there_is_another() -> None:
    assert "Authorization: Basic YTpiIGM=" in lines("http://a:b%20c@h/")
    assert lines("http://a:b@h/", authorization="Bearer t").count("authorization: Bearer t") == 1
    assert not any("Basic" in line for line in lines("http://a:b@h/", authorization="Bearer t"))


def test_own_user_agent() -> None:
    assert AGENT not in lines("http://h/", user_agent="mine")


def test_a_head_is_not_kept_for_other_headers() -> None:
    target = Target("http://h/")
    headers = {"Idempotency-Key": "1"}
    first = target.encode(HttpRequest("POST", "http://h/", headers, b"", 1.0))
    headers["Idempotency-Key"] = "2"
    second = target.encode(HttpRequest("POST", "http://h/", headers, b"", 1.0))
    third = target.encode(HttpRequest("PUT", "http://h/", headers, b"", 1.0))
    assert b"Idempotency-Key: 1\r\n" in first
    assert b"Idempotency-Key: 2\r\n" in second
    assert third.startswith(b"PUT / ")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"A": "b\r\nC: d"}),
        ("POST", {"A\r\nB": "c"}),
        ("POST", {"A:": "c"}),
        ("POST", {"": "c"}),
        ("POST", {"A": "☃"}),
        ("PO ST", {}),
        ("HEAD", {}),
        ("CONNECT", {}),
    ],
)
def test_what_cannot_be_written(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Target("http://h/").encode(HttpRequest(method, "http://h/", headers, b"", 1.0))


@pytest.mark.parametrize("url", ["", "h/", "ftp://h/", "http:///", "http://h:x/", "http://a b/"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Target(url)
