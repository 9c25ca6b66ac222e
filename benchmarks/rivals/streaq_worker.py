"""streaq: a Redis stream; `enqueue_many` puts jobs into it through a pipeline."""

from __future__ import annotations

from streaq import Worker

from benchmarks.rivals.sms import Order, Session, messages, run

CONCURRENCY = 256
PART = 1000
"""Jobs in one pipeline."""


async def enqueue(order: Order) -> None:
    """Put every message into the queue."""
    worker = _worker(order)
    jobs = [worker.enqueue_unsafe("send", to, text) for to, text in messages(order.messages)]
    async with worker:
        for first in range(0, len(jobs), PART):
            await worker.enqueue_many(jobs[first : first + PART])


async def work(order: Order) -> None:
    """Send until the process is ended."""
    session = Session(order.sink, CONCURRENCY)

    async def send(to: str, text: str) -> None:
        await session.send(to, text)

    worker = _worker(order)
    worker.task(name="send", silent=True, ttl=0)(send)
    await worker.run_async()


def _worker(order: Order) -> Worker[None]:
    return Worker(order.store, concurrency=CONCURRENCY, handle_signals=False)


if __name__ == "__main__":
    run(enqueue, work)
