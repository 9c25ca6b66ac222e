"""The demo as a user runs it: its account against the journal, and what every end leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dispatcher.cli.demo import Demo
from dispatcher.cli.demo_campaign import CARRIERS, OPERATORS
from dispatcher.cli.demo_summary import print_summary

SECONDS = 50


class Running:
    """A demo in a process of its own, its temporary files below `folder`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher", "demo", *arguments],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr once it has ended."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def child(self, command: str) -> int:
        """The pid of one of its processes, once that has been started."""
        for _ in range(500):
            for pid, line in self.processes().items():
                if f" {command} " in line and "demo_child" in line:
                    return pid
            time.sleep(0.02)
        raise AssertionError(f"no {command} process")

    def sending(self) -> None:
        """Wait until the first plain line: messages are on their way."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if " sent " in line:
                return
        raise AssertionError("it ended before it sent anything")

    def processes(self) -> dict[int, str]:
        """Command lines of the processes that work in the folder: children, keeper and server."""
        listed = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True)
        rows = (line.split(None, 1) for line in listed.stdout.splitlines())
        return {int(pid): line for pid, line in rows if str(self.folder) in line}

    def left(self) -> list[str]:
        """Processes and files that are still there."""
        return [*self.processes().values(), *map(str, self.folder.iterdir())]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, so that the server's socket lies in it too."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    running = Running(folder, "--messages", "6000")
    yield running
    running.process.kill()
    running.process.communicate()


def number(out: str, pattern: str) -> int:
    found = re.search(pattern, out, re.MULTILINE)
    assert found, f"{pattern} not in:\n{out}"
    return int(found[1].replace(",", ""))


def columns(out: str, name: str) -> tuple[int, int, int]:
    """A line of the account: text messages, e-mails and codes."""
    found = re.search(rf"^{name} +([\d,]+) +([\d,]+) +([\d,]+)", out, re.MULTILINE)
    assert found, f"{name} not in:\n{out}"
    sms, email, codes = (int(text.replace(",", "")) for text in found.groups())
    return sms, email, codes


def test_a_demo_ends_well_and_its_account_adds_up(folder: Path) -> None:
    demo = Running(folder, "--messages", "900")
    code, out, err = demo.end()
    assert (code, err) == (0, ""), out + err
    assert out.rstrip().endswith("every accepted message is accounted for")
    assert columns(out, "submitted") == columns(out, "accepted") == (900, 450, 13)
    ends = [columns(out, name) for name in ("sent", "dead", "suppressed", "unknown")]
    assert tuple(map(sum, zip(*ends, strict=True))) == (900, 450, 13)
    assert min(count for count, _, _ in ends) > 0
    assert [count for _, count, _ in ends] == [449, 1, 0, 0]
    reached = sum(int(n) for n in re.findall(r"(\d+) reached the provider", out))
    assert number(out, r"accepted, ([\d,]+) distinct") == sum(ends[0]) + reached
    assert number(out, r"^posted twice +(\d+) codes") == 2
    for name in ("retried", "deferred"):
        assert min(columns(out, name)[:2]) > 0
    assert demo.left() == []


async def test_the_printed_numbers_are_those_of_the_journals() -> None:
    result = await Demo(250, 2, time.monotonic() + SECONDS).play()
    text = StringIO()
    print_summary(Console(file=text, width=80, markup=False), result)
    out = text.getvalue()
    assert result.faults == []
    arrivals = [one for seen in result.arrivals.values() for one in seen]
    accepted = [one for one in arrivals if one.event == "accepted"]
    assert number(out, r"^the simulators +([\d,]+) accepted") == len(accepted)
    assert number(out, r"accepted, ([\d,]+) distinct") == len({one.to for one in accepted})
    for carrier in ("us-verizon", "de-telekom", "microsoft"):
        (known,) = (one for one in CARRIERS if one.name == carrier)
        seen = sum(map(known.serves, (one.to for one in arrivals)))
        assert number(out, rf"^ *{carrier} +([\d,]+)") == seen
    sms = Counter(one.code for one in result.arrivals["sms"] if one.event == "refused")
    texts, mails, codes = columns(out, "suppressed")
    assert (texts + codes, mails) == (sms["21610"], 0)
    texts, mails, codes = columns(out, "dead")
    assert (texts + codes, mails) == (sms["21211"] + sms["21614"] + sms["21408"], 1)
    email = Counter(one.code for one in result.arrivals["email"] if one.event == "refused")
    assert columns(out, "retried")[1] == email["500"] > 0
    assert columns(out, "deferred")[1] > email["429"] > 0
    assert email["400"] == result.repeated == 1
    posted = result.outcomes[2].submitted
    assert {known[2].lane for known in posted.records.values()} <= {one.lane for one in OPERATORS}
    assert len(posted.records) == len(posted.recipients) == 3
    assert max(map(len, out.splitlines())) <= 80


def test_time_that_is_up_names_what_is_missing(folder: Path) -> None:
    demo = Running(folder, "--messages", "20000", "--seconds", "6")
    code, out, _ = demo.end()
    assert code == 1
    sms, email, _ = columns(out, "waiting")
    assert 0 < sms <= 20_000 and email <= 10_000
    assert number(out, r"^ +sms: (\d+) messages without an outcome") == sms
    assert demo.left() == []


def test_an_interrupted_demo_leaves_nothing(running: Running) -> None:
    running.sending()
    running.process.send_signal(signal.SIGINT)
    code, _, err = running.end()
    assert (code, err) == (130, "interrupted: draining the worker, stopping everything\n")
    assert running.left() == []


@pytest.mark.parametrize("command", ["worker", "simulator", "api"])
def test_a_child_that_dies_is_named_with_its_last_words(running: Running, command: str) -> None:
    running.sending()
    os.kill(running.child(command), signal.SIGKILL)
    code, _, err = running.end()
    assert code == 1
    name = "sms simulator" if command == "simulator" else command
    assert f"the {name} process was killed by signal 9" in err
    assert ("INFO    worker" in err) == (command == "worker")
    assert "Traceback" not in err
    assert running.left() == []


def test_children_do_not_outlive_a_killed_demo(running: Running) -> None:
    running.sending()
    lines = "\n".join(running.processes().values())
    for command in (" simulator ", " worker ", " api ", "keeper.py", "valkey-server"):
        assert command in lines
    running.process.kill()
    assert running.process.wait() == -signal.SIGKILL
    for _ in range(1000):
        if not running.left():
            return
        time.sleep(0.02)
    assert running.left() == []
