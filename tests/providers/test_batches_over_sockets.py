"""Batched providers against a strict receiver: what they compose is taken, word for word, and what
they read is what happened."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

import pytest

from dispatcher.errors import InvalidRecipient, Permanent, SendError, Throttled, Unsent
from dispatcher.exchange import Accepted, BatchProvider, HttpRequest, Outgoing, Result
from dispatcher.simulator import SendGridAccount, Settings, Simulator, WebhookAccount
from dispatcher.toml import Secret
from dispatcher.transport.aiohttp_pool import AiohttpTransport
from tests.providers.samples import TEMPLATE, batched, envelope, outgoing

KEY = Secret(SendGridAccount().api_key)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    simulator = Simulator(Settings((SendGridAccount(), WebhookAccount(rejects=("+1",)))))
    yield simulator
    await simulator.stop()


@pytest.fixture
async def url(simulator: Simulator) -> str:
    return await simulator.start()


async def deliver(
    provider: BatchProvider, request: HttpRequest, count: int
) -> list[Accepted | SendError]:
    transport = AiohttpTransport(1)
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    transport.send(request, done.set_result)
    async with asyncio.timeout(10):
        result = await done
    await transport.close()
    assert result.answer is not None
    return list(provider.read_batch(result.answer, count))


def mails(count: int, values: Callable[[int], tuple[str, ...]]) -> list[Outgoing]:
    return [
        outgoing(n, to=f"u{n}@example.org", sender="Shop <shop@example.com>", values=values(n))
        for n in range(count)
    ]


async def test_a_thousand_e_mails_in_one_request(simulator: Simulator, url: str) -> None:
    label = envelope(
        "email", ("name", "code"), text="{name}, {{{code}}}", html="<p>{name}</p>", subject="{code}"
    )
    grid = batched("sendgrid", url, api_key=KEY)
    messages = mails(1000, lambda n: (f"<A{n} & -t0->", f"{n}\n"))
    verdicts = await deliver(grid, grid.compose_batch(label)(messages), 1000)
    assert all(isinstance(one, Accepted) and one.provider_id for one in verdicts)
    entries = list(simulator.journal.entries())
    assert [one.message for one in entries] == [one.id for one in messages]
    for n, entry in enumerate(entries):
        name = f"&lt;A{n} &amp; -t0-&gt;"
        expected = f"{n} \n<A{n} & -t0->, {{{n}\n}}\n<p>{name}</p>"
        assert entry.text == hashlib.sha1(expected.encode()).hexdigest()[:12]


async def test_a_dynamic_template(simulator: Simulator, url: str) -> None:
    grid = batched("sendgrid", url, api_key=KEY)
    label = envelope("email", ("name",), template=TEMPLATE)
    messages = mails(2, lambda n: (f"A{n}",))
    verdicts = await deliver(grid, grid.compose_batch(label)(messages), 2)
    assert [type(one) for one in verdicts] == [Accepted, Accepted]
    expected = hashlib.sha1(f'{TEMPLATE}\n{{"name":"A1"}}'.encode()).hexdigest()[:12]
    assert list(simulator.journal.entries())[1].text == expected


async def test_the_others_pass_without_the_bad_recipient(simulator: Simulator, url: str) -> None:
    simulator.change_account("sendgrid/demo", rejects=["u1@"])
    grid = batched("sendgrid", url, api_key=KEY)
    request = grid.compose_batch(envelope("email", text="Hi", subject="S"))
    messages = mails(3, lambda n: ())
    verdicts = await deliver(grid, request(messages), 3)
    assert [type(one) for one in verdicts] == [Unsent, InvalidRecipient, Unsent]
    others = [messages[0], messages[2]]
    assert {type(one) for one in await deliver(grid, request(others), 2)} == {Accepted}
    accepted = [one.message for one in simulator.journal.entries() if one.event == "accepted"]
    assert accepted == [one.id for one in others]


async def test_values_that_are_too_long_hurt_their_own_message_only(url: str) -> None:
    grid = batched("sendgrid", url, api_key=KEY)
    request = grid.compose_batch(envelope("email", ("a",), text="{a}", subject="S"))
    messages = mails(3, lambda n: ("x" * (10_000 if n == 2 else 1),))
    verdicts = await deliver(grid, request(messages), 3)
    assert [one.retryable for one in verdicts if isinstance(one, SendError)] == [True, True, False]


async def test_a_throttled_request_says_when(simulator: Simulator, url: str) -> None:
    simulator.change_account("sendgrid/demo", window_requests=1, window=1000)
    grid = batched("sendgrid", url, api_key=KEY)
    request = grid.compose_batch(envelope("email", text="Hi", subject="S"))(mails(2, lambda n: ()))
    await deliver(grid, request, 2)
    for verdict in await deliver(grid, request, 2):
        assert isinstance(verdict, Throttled) and verdict.retry_after is not None
        assert 1 <= verdict.retry_after <= 1001


async def test_a_webhook_batch(simulator: Simulator, url: str) -> None:
    hook = batched("webhook", url=f"{url}/webhook/demo", batch=3)
    messages = [outgoing(0), outgoing(1, to="+15550001111"), outgoing(2, text="ü")]
    request = hook.compose_batch(envelope(text="Hi"))(messages)
    for accepted, repeats in ((2, 0), (2, 2)):
        verdicts = await deliver(hook, request, 3)
        assert [type(one) for one in verdicts] == [Accepted, Permanent, Accepted]
        assert isinstance(verdicts[1], Permanent) and verdicts[1].code == "rejected"
        assert (simulator.counts.accepted, simulator.counts.repeats) == (accepted, repeats)
