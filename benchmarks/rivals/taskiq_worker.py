"""taskiq with the streams broker of taskiq-redis; it has no call that enqueues many jobs."""

from __future__ import annotations

from taskiq.api import run_receiver_task
from taskiq.kicker import AsyncKicker
from taskiq_redis import RedisStreamBroker

from benchmarks.rivals.sms import Order, Session, enqueue_each, run

CONCURRENCY = 256


async def enqueue(order: Order) -> None:
    """Put every message into the queue."""
    broker = _broker(order)
    await broker.startup()
    await enqueue_each(
        lambda to, text: AsyncKicker("send", broker, {}).kiq(to, text), order.messages
    )
    await broker.shutdown()


async def work(order: Order) -> None:
    """Send until the process is ended."""
    session = Session(order.sink, CONCURRENCY)

    async def send(to: str, text: str) -> None:
        await session.send(to, text)

    broker = _broker(order)
    broker.register_task(send, task_name="send")
    await run_receiver_task(
        broker,
        run_startup=True,
        validate_params=False,
        max_async_tasks=CONCURRENCY,
        max_prefetch=CONCURRENCY,
    )


def _broker(order: Order) -> RedisStreamBroker:
    """A worker that starts last reads from the beginning of the stream."""
    return RedisStreamBroker(order.store, consumer_id="0", xread_count=CONCURRENCY)


if __name__ == "__main__":
    run(enqueue, work)
