"""All that an e-mail carries goes from the command line into the queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dispatcher.messages import Content, decode_body
from dispatcher.store.opening import Store
from tests.cli.command import Commands
from tests.cli.inside import Inside

MAIL = """
[providers.mail]
kind = "sendgrid"
api_key = "SG.key"
base_url = "http://127.0.0.1:9"
"""


async def test_every_part_of_the_content_is_queued(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path], store: Store
) -> None:
    config_file(MAIL)
    commands.write("page.html", "<p>{name}</p>")
    commands.write("rows.csv", "to,name,ref\nann@example.com,Ann,order-7\n")
    result = await inside.call(
        "send", "rows.csv", "--channel", "email", "--from", "shop@example.com", "--text",
        "Hi {name}", "--subject", "For {name}", "--html", "page.html", "--reply-to",
        "help@example.com", "--header", "X-Tag: spring",
    )  # fmt: skip
    assert (result.code, result.out) == (0, "1 accepted, 0 rejected\n")
    names = [name async for name in store.client.scan_iter(store.keys.name("queue", "*"))]
    ((_, fields),) = await store.client.xrange(names[0])
    envelope, (row,) = decode_body(fields[b"body"])
    assert envelope.content == Content(
        text="Hi {name}",
        subject="For {name}",
        html="<p>{name}</p>",
        reply_to="help@example.com",
        headers={"X-Tag": "spring"},
    )
    assert (row.to, row.values, row.ref) == ("ann@example.com", ("Ann",), "order-7")
    refused = await inside.call(
        "send", "rows.csv", "--channel", "email", "--from", "shop@example.com", "--text", "Hi",
        "--subject", "Hi", "--media", "https://example.com/a.png",
    )  # fmt: skip
    assert refused.code == 2
    assert refused.err == ["dispatcher: unsupported_content: sendgrid carries no media"]


def test_a_page_that_is_not_utf_8_is_refused_before_any_call(
    commands: Commands, inside: Inside
) -> None:
    commands.write("page.html", "<p>Grüße</p>".encode("latin-1"))
    commands.write("rows.csv", "to\nann@example.com\n")
    result = inside.run(
        "send", "rows.csv", "--channel", "email", "--from", "shop@example.com", "--text", "Hi",
        "--html", "page.html", "--api", "http://127.0.0.1:9",
    )  # fmt: skip
    assert (result.code, result.out) == (2, "")
    assert result.err == ["dispatcher: --html page.html is not UTF-8"]
