"""Which providers take a message: the first match, failover order, weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from dispatcher.engine.ingest import Ingest, OpenBatch, Recipient
from dispatcher.errors import InvalidMessage
from dispatcher.messages import decode_body
from dispatcher.policy.routing import Route

THREE = "".join(
    f'[providers.{name}]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n' for name in "abc"
)
TWILIO = (
    '[providers.t]\nkind = "twilio"\n'
    'account_sid = "AC00000000000000000000000000000001"\nauth_token = "secret"\n'
)


def test_without_routes_every_provider_in_the_order_of_the_file(
    ingest: Callable[[str], Ingest],
) -> None:
    assert ingest(THREE).router.route("sms", "+4915112345678") == Route(("a", "b", "c"))


def test_the_first_match_wins_and_gives_the_failover_order(
    ingest: Callable[[str], Ingest],
) -> None:
    router = ingest(
        THREE + '[[routes]]\nchannel = "sms"\nto = "+49151*"\nproviders = ["b", "a"]\n'
        '[[routes]]\nto = "+49*"\nproviders = ["c"]\non_unknown = "hold"\n'
        '[[routes]]\nto = "*0"\nproviders = ["a", "c"]\n'
        '[[routes]]\nchannel = "voice"\nproviders = ["b"]\n'
    ).router
    assert router.route("sms", "+4915112345678") == Route(("b", "a"))
    assert router.route("voice", "+4915112345678") == Route(("c",), "hold")
    assert router.route("sms", "+4916012345678") == Route(("c",), "hold")
    assert router.route("sms", "+12125550100") == Route(("a", "c"))
    assert router.route("voice", "+12125550101") == Route(("b",))
    with pytest.raises(InvalidMessage) as caught:
        router.route("sms", "+12125550101")
    assert caught.value.code == "no_route"


def test_a_provider_that_cannot_carry_the_channel_is_left_out(
    ingest: Callable[[str], Ingest],
) -> None:
    router = ingest(
        THREE + TWILIO + '[[routes]]\nproviders = ["t", "a"]\n[[routes]]\nproviders = ["b"]\n'
    ).router
    assert router.route("sms", "+12125550100").providers == ("t", "a")
    assert router.route("push", "token").providers == ("a",)


def test_a_record_without_a_route_is_refused(batch: Callable[..., OpenBatch]) -> None:
    opened = batch(THREE + '[[routes]]\nto = "+49*"\nproviders = ["a"]\n')
    part = opened.part(
        0, [Recipient(0, "+4915112345678", ("A",)), Recipient(1, "+12125550100", ("B",))]
    )
    assert [(one.index, one.code) for one in part.rejected] == [(1, "no_route")]
    assert part.accepted == 1


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 2, 1), (90, 9, 1), (1, 0, 0)])
def test_weights_share_out_recipients_for_good(
    ingest: Callable[[str], Ingest], weights: tuple[int, ...]
) -> None:
    chosen = ", ".join(
        f'{{name = "{name}", weight = {weight}}}'
        for name, weight in zip("abc", weights, strict=True)
        if weight
    )
    toml = THREE + f"[[routes]]\nproviders = [{chosen}]\n"
    people = [f"+4915{number * 7919:09d}" for number in range(10_000)]
    router = ingest(toml).router
    routes = [router.route("sms", to) for to in people]
    firsts = Counter(route.providers[0] for route in routes)
    for name, weight in zip("abc", weights, strict=True):
        share = weight / sum(weights)
        assert abs(firsts[name] - 10_000 * share) <= 500 * share + 60 * (share < 0.1)
    for route in routes:
        assert sorted(route.providers) == [n for n, w in zip("abc", weights, strict=True) if w]
    again = ingest(toml).router
    assert [again.route("sms", to) for to in people] == routes


def test_entries_start_in_the_lane_of_their_first_provider(
    batch: Callable[..., OpenBatch],
) -> None:
    opened = batch(
        THREE + '[[routes]]\nproviders = [{name = "a", weight = 1}, {name = "c", weight = 1}]\n'
    )
    part = opened.part(0, [Recipient(i, f"+49151{i:08d}", ("x",)) for i in range(200)])
    seen = set()
    for entry in part.entries:
        envelope, _ = decode_body(entry.body)
        assert entry.lane.split("/")[0] == envelope.providers[0]
        seen.add(envelope.providers)
    assert seen == {("a", "c"), ("c", "a")}


SHOP = '[senders.shop]\nb = "SHOP"\n'


def test_a_provider_without_the_sender_is_left_out(batch: Callable[..., OpenBatch]) -> None:
    opened = batch(THREE + SHOP, sender="shop")
    part = opened.part(0, [Recipient(0, "+4915112345678", ("Ann",))])
    (entry,) = part.entries
    assert entry.lane.startswith("b/sms/")
    assert decode_body(entry.body)[0].providers == ("b",)


def test_no_provider_with_the_sender_rejects_the_recipient(
    batch: Callable[..., OpenBatch],
) -> None:
    route = '[[routes]]\nto = "+49*"\nproviders = ["a", "c"]\n[[routes]]\nproviders = ["b"]\n'
    opened = batch(THREE + SHOP + route, sender="shop")
    numbers = ("+4915112345678", "+12125550100")
    part = opened.part(0, [Recipient(at, to, ("Ann",)) for at, to in enumerate(numbers)])
    assert part.accepted == 1
    (refused,) = part.rejected
    assert (refused.index, refused.code) == (0, "invalid_sender")
    assert refused.detail == "senders.shop names no sender of a"
