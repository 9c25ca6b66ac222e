"""arq: a sorted set, polled; it has no call that enqueues many jobs."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks.rivals.sms import Order, Session, enqueue_each, run

CONCURRENCY = 256
POLL = 0.01
"""Seconds between polls. A poll starts jobs only up to the limit: the 0.5 s of the default would
cap the rate at twice the concurrency."""


async def enqueue(order: Order) -> None:
    """Put every message into the queue."""
    pool = await create_pool(_settings(order))
    await enqueue_each(lambda to, text: pool.enqueue_job("send", to, text), order.messages)
    await pool.aclose()


async def work(order: Order) -> None:
    """Send until the process is ended."""
    session = Session(order.sink, CONCURRENCY)

    async def send(_: dict[str, Any], to: str, text: str) -> None:
        await session.send(to, text)

    worker = Worker(
        [func(send, name="send")],
        redis_settings=_settings(order),
        max_jobs=CONCURRENCY,
        poll_delay=POLL,
        queue_read_limit=2 * CONCURRENCY,
        keep_result=0,
        log_results=False,
        handle_signals=False,
    )
    await worker.async_run()


def _settings(order: Order) -> RedisSettings:
    return RedisSettings(unix_socket_path=unquote(urlsplit(order.store).path))


if __name__ == "__main__":
    run(enqueue, work)
