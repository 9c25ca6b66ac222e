"""saq: a list and BLMOVE, with a connection for each job; no call enqueues many jobs."""

from __future__ import annotations

from typing import Any

from saq import Worker
from saq.queue.redis import RedisQueue

from benchmarks.rivals.sms import Order, Session, enqueue_each, run

CONCURRENCY = 64


async def enqueue(order: Order) -> None:
    """Put every message into the queue."""
    queue = _queue(order)
    await enqueue_each(lambda to, text: queue.enqueue("send", to=to, text=text), order.messages)
    await queue.disconnect()


async def work(order: Order) -> None:
    """Send until the process is ended.

    The sweep of a starting worker takes jobs it has just fetched for stuck ones and sends some
    twice. It is skipped while an earlier sweep holds its lock.
    """
    session = Session(order.sink, CONCURRENCY)

    async def send(_: Any, *, to: str, text: str) -> None:
        await session.send(to, text)

    queue = _queue(order)
    await queue.connect()
    await queue.sweep(lock=3600)
    await Worker(queue, [("send", send)], concurrency=CONCURRENCY).start()
    await session.close()
    await queue.disconnect()


def _queue(order: Order) -> RedisQueue:
    """Up to CONCURRENCY reads of jobs at a time: the default of 20 would hold them up."""
    return RedisQueue.from_url(order.store, max_concurrent_ops=CONCURRENCY)


if __name__ == "__main__":
    run(enqueue, work)
