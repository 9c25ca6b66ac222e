"""What happens on the stage: campaigns, codes, and everything that goes wrong on a bad night."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.dashboards.stage import TOKENS, Faults, Stage
from dispatcher import Client
from dispatcher.bodies import NewContent

CAMPAIGN = 9000
"""Messages in the file that is sent first."""
NUMBERS = ("+49151", "+49170", "+3361", "+44791", "+1202555")
USUAL: Faults = [
    {"fault": "refuse", "status": 503, "code": "20503", "account": "twilio", "probability": 0.04},
    {"fault": "refuse", "code": "21610", "account": "twilio", "probability": 0.01},
    {"fault": "refuse", "code": "21211", "account": "twilio", "probability": 0.01},
    {"fault": "refuse", "status": 429, "account": "sendgrid", "every": 40, "retry_after": 2},
    {"fault": "slow", "seconds": 0.8, "account": "twilio", "probability": 0.03},
    {"fault": "hang", "account": "webhook", "every": 150},
]
OUTAGE: Faults = [{"fault": "refuse", "status": 503, "account": "webhook"}, *USUAL]


async def play(stage: Stage, seconds: int) -> None:
    """Submit for so long, and let one thing after another go wrong."""
    stage.order(USUAL)
    acts: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
        (0.0, lambda: _campaign(stage)),
        (0.25, lambda: _outage(stage, seconds * 0.2)),
        (0.3, lambda: _lower_limit(stage, seconds * 0.2)),
        (0.5, lambda: _suspend(stage, seconds * 0.15)),
        (0.65, lambda: _crash(stage, seconds * 0.06)),
    )
    async with asyncio.TaskGroup() as tasks:
        for share, act in acts:
            tasks.create_task(_later(share * seconds, act))
        for tenant in TOKENS:
            tasks.create_task(_submit(stage, tenant, seconds))


async def _later(seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await act()


async def _submit(stage: Stage, tenant: str, seconds: float) -> None:
    """Codes, orders and letters of one tenant, a second's worth at a time."""
    loop, numbers = asyncio.get_running_loop(), random.Random(tenant)
    end = loop.time() + seconds
    async with Client(stage.url, TOKENS[tenant]) as client:
        while loop.time() < end:
            codes = [_phone(numbers) for _ in range(5)]
            orders = [*(_phone(numbers) for _ in range(30)), "no number"]
            await client.send(
                channel="sms", sender="brand", text="Your code is 1234", class_="urgent",
                ttl="5m", recipients=codes,
            )  # fmt: skip
            await client.send(
                channel="sms", sender="brand", text="Your order left us", recipients=orders
            )
            await client.send(
                channel="push", sender="brand", text="News", class_="bulk", ttl="10s",
                recipients=[f"device-{numbers.randrange(10**9)}" for _ in range(20)],
            )  # fmt: skip
            await client.send(
                channel="email", sender="brand", class_="bulk",
                content=NewContent(text="A letter", subject="News"),
                recipients=[f"p{numbers.randrange(10**9)}@example.com" for _ in range(20)],
            )  # fmt: skip
            await asyncio.sleep(1)


async def _campaign(stage: Stage) -> None:
    """A file to a carrier that takes little: a backlog for most of the run."""
    numbers = random.Random(0)
    path = Path(stage.folder, "campaign.csv")
    path.write_text("to\n" + "".join(f"{_phone(numbers)}\n" for _ in range(CAMPAIGN)))
    words = ("--channel", "sms", "--from", "brand", "--text", "20 % off", "--tenant", "shop")
    await stage.dispatcher("send", str(path), *words)


async def _outage(stage: Stage, seconds: float) -> None:
    stage.order(OUTAGE)
    await asyncio.sleep(seconds)
    stage.order(USUAL)


async def _lower_limit(stage: Stage, seconds: float) -> None:
    await stage.dispatcher(
        "limits", "set", "carrier:de-telekom", "15/s", "--for", f"{seconds:.0f}s"
    )


async def _suspend(stage: Stage, seconds: float) -> None:
    words = ("--reason", "the carrier asks for it", "--for", f"{seconds:.0f}s")
    await stage.dispatcher("suspend", "twilio-eu/sms/fr*", *words)


async def _crash(stage: Stage, seconds: float) -> None:
    stage.kill_worker()
    await asyncio.sleep(seconds)
    stage.restart_worker()


def _phone(numbers: random.Random) -> str:
    return f"{numbers.choice(NUMBERS)}{numbers.randrange(10**6):06d}"
