"""What `dispatcher run --sandbox` runs on: a folder, a configuration, something to try."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dispatcher.simulator import TwilioAccount
from dispatcher.store.keeper import Files, open_lock, wait_lock
from dispatcher.toml import toml_value

STORE = "store"
STORE_SECONDS = 40.0
"""How long the store may take to end."""


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone at the end, once its store has stopped."""
    path = Path(tempfile.mkdtemp(prefix="dispatcher-sandbox-"))
    try:
        yield path
    finally:
        _await_store(path / STORE)
        shutil.rmtree(path, ignore_errors=True)


def _await_store(data_dir: Path) -> None:
    with suppress(OSError):
        lock = open_lock(Files(data_dir).keeper)
        try:
            wait_lock(lock, fcntl.LOCK_EX, time.monotonic() + STORE_SECONDS)
        finally:
            os.close(lock)


def write_config(folder: Path, simulator: str) -> Path:
    """A configuration with a Twilio account and a webhook at the simulator; its path."""
    account = TwilioAccount()
    path = folder / "dispatcher.toml"
    path.write_text(
        f"""[store]
data_dir = {toml_value(str(folder / STORE))}

[worker]
port = 0

[providers.twilio-sandbox]
kind = "twilio"
base_url = {toml_value(simulator)}
account_sid = {toml_value(account.account_sid)}
auth_token = {toml_value(account.auth_token)}
rate = "100/s"

[providers.webhook-sandbox]
kind = "webhook"
url = {toml_value(f"{simulator}/webhook/demo")}
rate = "100/s"

[senders.shop]
twilio-sandbox = ["+15005550006"]
webhook-sandbox = ["SHOP"]

[[routes]]
channel = "sms"
providers = ["twilio-sandbox", "webhook-sandbox"]

[[routes]]
providers = ["webhook-sandbox"]
""",
        encoding="utf-8",
    )
    return path


def hint(url: str) -> str:
    """A command line that sends two messages."""
    body = (
        '{"channel":"sms","from":"shop","content":{"text":"Hi {name}"},"recipients":['
        '{"to":"+4915550000001","params":{"name":"Ann"}},'
        '{"to":"+12025550002","params":{"name":"Ben"}}]}'
    )
    return f"try: curl {url}/v1/messages -H 'Content-Type: application/json' -d '{body}'"
