"""What Twilio checks, by the facts page."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.simulator import Hang, Settings, Simulator, TwilioAccount
from dispatcher.simulator.form import read_form
from dispatcher.simulator.segments import count_segments
from tests.simulator.clients import (
    LABEL,
    SID,
    SMS,
    TOKEN,
    TWILIO,
    Client,
    basic,
    form,
    request,
    sms,
)

SERVICE = "MG" + "a" * 32


async def test_an_accepted_message(client: Client) -> None:
    answer = await client.sms(Body="Grüße + 50 % {} €")
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["twilio-concurrent-requests"] == "1"
    body = answer.json
    assert body["sid"].startswith("SM") and len(body["sid"]) == 34
    assert int(body["sid"][2:], 16)
    assert body["uri"] == f"/2010-04-01/Accounts/{SID}/Messages/{body['sid']}.json"
    assert body["status"] == "queued"
    assert (body["to"], body["from"]) == (SMS["To"], SMS["From"])
    assert (body["body"], body["num_segments"]) == ("Grüße + 50 % {} €", "1")
    assert body["error_code"] is None and body["messaging_service_sid"] is None


async def test_every_message_has_its_own_sid(client: Client) -> None:
    sids = {(await client.sms()).json["sid"] for _ in range(20)}
    assert len(sids) == 20


async def test_a_messaging_service_accepts_without_knowing_the_sender(client: Client) -> None:
    body = (await client.sms(From="", MessagingServiceSid=SERVICE)).json
    assert (body["status"], body["num_segments"], body["from"]) == ("accepted", "0", None)
    times = {"SendAt": "2026-11-27T09:00:00Z", "ScheduleType": "fixed"}
    body = (await client.sms(From="", MessagingServiceSid=SERVICE, **times)).json
    assert body["status"] == "scheduled"


async def test_media_makes_it_an_mms(client: Client) -> None:
    two = b"&MediaUrl=https%3A%2F%2Fcdn.test%2Fa.png&MediaUrl=https%3A%2F%2Fcdn.test%2Fb.png"
    body = (await client.send(form(b"To=%2B4915111111111&From=%2B4915550006" + two))).json
    assert (body["sid"][:2], body["num_media"]) == ("MM", "2")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"To": ""}, 400, 21604),
        ({"From": ""}, 400, 21603),
        ({"Body": ""}, 400, 21602),
        ({"To": "4915111111111"}, 400, 21211),
        ({"To": "+0915111111111"}, 400, 21211),
        ({"To": "+49151"}, 400, 21211),
        ({"To": "+4915111111111111"}, 400, 21211),
        ({"To": "+49 15111111111"}, 400, 21211),
        ({"To": "+٤٩١٥١١١١١١١١"}, 400, 21211),
        ({"To": "fax:+4915111111111"}, 400, 21211),
        ({"To": "whatsapp:+4915111111111"}, 400, 21910),
        ({"From": "whatsapp:+4915550006"}, 400, 21910),
        ({"From": "a sender name too long"}, 400, 21212),
        ({"Body": "x" * 1601}, 400, 21617),
        ({"ValidityPeriod": "0"}, 400, 90007),
        ({"ValidityPeriod": "36001"}, 400, 90007),
        ({"ValidityPeriod": "1.5"}, 400, 90007),
        ({"StatusCallback": "example.com/hook"}, 400, 21609),
        ({"StatusCallback": "ftp://example.com/hook"}, 400, 21609),
        ({"StatusCallback": "https://under_score.test/hook"}, 400, 21609),
        ({"MediaUrl": "picture.png"}, 400, 21620),
        ({"MessagingServiceSid": "MG1"}, 400, 21701),
        ({"ContentVariables": "{}"}, 400, 21654),
        ({"ContentVariables": "[]", "ContentSid": "HX1"}, 400, 21656),
        ({"SendAt": "2026-11-27T09:00:00Z", "ScheduleType": "fixed"}, 400, 35118),
        ({"SendAt": "soon", "ScheduleType": "fixed", "MessagingServiceSid": SERVICE}, 400, 20001),
        ({"SendAt": "2026-11-27T09:00:00Z", "MessagingServiceSid": SERVICE}, 400, 20001),
        ({"Text": "Hi"}, 400, 20001),
        ({"From": "+15005550001"}, 400, 21212),
        ({"From": "+15005550007"}, 400, 21606),
        ({"From": "+15005550008"}, 429, 21611),
        ({"To": "+15005550001"}, 400, 21211),
        ({"To": "+15005550002"}, 400, 21612),
        ({"To": "+15005550003"}, 403, 21408),
        ({"To": "+15005550004"}, 400, 21610),
        ({"To": "+15005550009"}, 400, 21614),
    ],
)  # fmt: skip
async def test_a_refused_message(
    simulator: Simulator, client: Client, changes: dict[str, str], status: int, code: int
) -> None:
    answer = await client.sms(**changes)
    assert (answer.status, answer.json["code"], answer.json["status"]) == (status, code, status)
    assert answer.json["message"] and answer.json["more_info"].endswith(str(code))
    assert simulator.counts.refused == {str(code): 1}
    assert simulator.counts.accepted == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"Body": "x" * 1600},
        {"ValidityPeriod": "1"},
        {"ValidityPeriod": "36000"},
        {"StatusCallback": "http://127.0.0.1:8080/hooks/twilio?m=01J-0"},
        {"From": "SHOP"},
        {"From": "72345"},
        {"From": "+15005550006"},
        {"To": "whatsapp:+4915111111111", "From": "whatsapp:+4915550006"},
        {"From": "rcs:agent"},
        {"ContentSid": "HX1", "ContentVariables": '{"1":"Ann"}', "Body": ""},
    ],
)
async def test_the_edge_of_what_is_allowed(client: Client, changes: dict[str, str]) -> None:
    assert (await client.sms(**changes)).status == 201


@pytest.mark.parametrize(
    "body",
    [
        b"To=%2B4915111111111&From=SHOP&Body=50%",
        b"To=%2B4915111111111&From=SHOP&Body=%FF",
        b"To=%2B4915111111111&From=SHOP&Body",
        b"To=%2B4915111111111&From=SHOP&Body=a&Body=b",
        b'{"To":"+4915111111111"}',
    ],
)
async def test_a_body_that_is_no_clean_form(client: Client, body: bytes) -> None:
    answer = await client.send(form(body))
    assert (answer.status, answer.json["code"]) == (400, 20001)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        basic(secret="wrong"),
        basic(user="AC" + "1" * 32),
        "Bearer " + TOKEN,
        "Basic " + base64.b64encode(f"{SID}{TOKEN}".encode()).decode(),
    ],
)
async def test_wrong_credentials(client: Client, authorization: str) -> None:
    answer = await client.send(form(b"To=x", Authorization=authorization))
    assert (answer.status, answer.json["code"]) == (401, 20003)


async def test_method_content_type_and_path(client: Client) -> None:
    answer = await client.send(request("GET", TWILIO, Authorization=basic()))
    assert (answer.status, answer.json["code"]) == (405, 20004)
    answer = await client.send(form(b"{}", Content_Type="application/json"))
    assert answer.status == 415
    other = TWILIO.replace(SID, "AC" + "1" * 32)
    answer = await client.send(request("POST", other, Authorization=basic()))
    assert (answer.status, answer.json["code"]) == (401, 20003)
    answer = await client.send(request("POST", "/2010-04-01/Nowhere.json", Authorization=basic()))
    assert (answer.status, answer.json["code"]) == (404, 20404)


async def test_api_keys_and_own_numbers() -> None:
    account = TwilioAccount(api_keys={"SK1": "secret"}, numbers=(SMS["From"],))
    simulator = Simulator(Settings((account,)))
    async with Client(await simulator.start()) as client:
        raw = form(b"To=%2B4915111111111&From=%2B4915550006&Body=Hi")
        by_key = raw.replace(basic().encode(), basic("SK1", "secret").encode())
        assert (await client.send(by_key)).status == 201
        assert (await client.sms(From="+15005550006")).status == 201
        assert (await client.sms(From="SHOP")).json["code"] == 21606
    await simulator.stop()


async def test_a_suspended_account_and_a_changed_token(
    simulator: Simulator, client: Client
) -> None:
    simulator.change_account(LABEL, suspended=True)
    answer = await client.sms()
    assert (answer.status, answer.json["code"]) == (403, 20005)
    simulator.change_account(LABEL, suspended=False, auth_token="new")
    assert (await client.sms()).json["code"] == 20003
    simulator.change_account(LABEL, auth_token=TOKEN)
    assert (await client.sms()).status == 201


async def test_concurrency_is_told_and_limited() -> None:
    simulator = Simulator(Settings((TwilioAccount(concurrency=2),), (Hang(times=1),)))
    url = await simulator.start()
    async with Client(url) as one, Client(url) as two, Client(url) as three:
        one.writer.write(sms())
        assert await one.is_silent()
        simulator.change_account(LABEL, latency={"mean": 60})
        two.writer.write(sms())
        assert await two.is_silent()
        simulator.change_account(LABEL, latency={"mean": 0})
        answer = await three.sms()
        assert (answer.status, answer.json["code"]) == (429, 20429)
        simulator.change_account(LABEL, concurrency=3)
        assert (await three.sms()).headers["twilio-concurrent-requests"] == "3"
    await simulator.stop()


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_a_form_reads_what_was_written(fields: dict[str, str]) -> None:
    assert dict(read_form(urlencode(fields).encode())) == fields


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 1),
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("x" * 152 + "€" + "x" * 10, 2),
        ("€" * 153, 3),
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("x" * 152 + "ж", 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 67, 3),
    ],
)
def test_segments(text: str, segments: int) -> None:
    assert count_segments(text) == segments
