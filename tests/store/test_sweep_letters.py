"""Dead letters leave when they are old enough."""

from __future__ import annotations

from dispatcher.store.opening import Store

HOUR = 3_600_000_000


async def test_old_letters_leave_and_young_ones_stay(store: Store) -> None:
    now = (await store.queue.heartbeat("clock", first=True)).now_us
    dead, letters = store.keys.name("dead"), store.keys.name("letters")
    for number in range(5):
        await store.client.zadd(dead, {f"old-{number}": now - 3 * HOUR})
        await store.client.hset(letters, f"old-{number}", b"letter")
    await store.client.zadd(dead, {"young-0": now - HOUR})
    await store.client.hset(letters, "young-0", b"letter")
    assert await store.queue.sweep(2 * 3600, most=3) == 3
    assert await store.queue.sweep(2 * 3600, most=3) == 2
    assert await store.queue.sweep(2 * 3600, most=3) == 0
    assert await store.client.zrange(dead, 0, -1) == [b"young-0"]
    assert await store.client.hkeys(letters) == [b"young-0"]
