"""Reads `[store] url`: where the store is, in each of the ways it can be run."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

PLAIN, SENTINEL, CLUSTER = "redis", "redis+sentinel", "redis+cluster"
STORE_SCHEMES = tuple(
    f"redis{tls}{kind}" for kind in ("", "+sentinel", "+cluster") for tls in ("", "s")
)
DEFAULT_PORTS = {PLAIN: 6379, SENTINEL: 26379, CLUSTER: 6379}

Node = tuple[str, int]
"""Host and port."""


class Address(NamedTuple):
    """`kind` is the scheme without TLS; `service` is the name of the master, for Sentinel only."""

    kind: str
    tls: bool
    nodes: tuple[Node, ...]
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None


def parse_address(url: str) -> Address:
    """The parts of a store's url. Raises ValueError, which never quotes the url: it may hold a
    password."""
    scheme, separator, rest = url.partition("://")
    if scheme not in STORE_SCHEMES or not separator or not rest:
        allowed = ", ".join(f"{scheme}://…" for scheme in STORE_SCHEMES)
        raise ValueError(f'url must be "embedded" or one of {allowed}')
    kind, tls = scheme.replace("rediss", "redis", 1), scheme.startswith("rediss")
    rest, question, _ = rest.partition("?")
    if question and kind != PLAIN:
        raise ValueError(f"url of {scheme}:// has no options after ?, they are keys of [store]")
    authority, _, path = rest.partition("/")
    login, _, hosts = authority.rpartition("@")
    service, db = _path(kind, unquote(path))
    nodes = tuple(_node(host, DEFAULT_PORTS[kind]) for host in hosts.split(","))
    if kind == PLAIN and len(nodes) > 1:
        raise ValueError(f"url of {scheme}:// names one server, got {len(nodes)}")
    username, _, password = login.partition(":")
    return Address(
        kind, tls, nodes, service, db, unquote(username) or None, unquote(password) or None
    )


def _path(kind: str, path: str) -> tuple[str, int]:
    """The name of the master and the number of the database."""
    if kind == CLUSTER:
        if path.strip("/"):
            raise ValueError(f'url of a cluster ends with its nodes, got "/{path}" after them')
        return "", 0
    service, _, db = path.partition("/") if kind == SENTINEL else ("", "", path.strip("/"))
    if kind == SENTINEL and not service:
        example = "redis+sentinel://host1:26379,host2:26379/mymaster"
        raise ValueError(f"url must end with the name of the master, as in {example}")
    if db and not db.isdecimal():
        raise ValueError(f'url must end with the number of a database, got "{db}"')
    return service, int(db or 0)


def _node(text: str, default_port: int) -> Node:
    """`host`, `host:port`, `[v6]` or `[v6]:port`."""
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host:
        raise ValueError("url must name a host, as in host:6379")
    if not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise ValueError(f'url must name ports of 1 to 65535, got "{port}" after {host}')
    return unquote(host), int(port)
