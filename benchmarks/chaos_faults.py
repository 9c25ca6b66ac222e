"""The faults of the chaos benchmark: what each is, what it asks for, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import chaos_inject as does
from benchmarks.arrivals import SLOT_SECONDS
from benchmarks.chaos_inject import DEADLY, Inject
from benchmarks.chaos_rig import LEASE_SECONDS, Setting
from benchmarks.chaos_store import find_faketime, version
from benchmarks.faults import small_disk

LONG = 2 * LEASE_SECONDS
BEHIND_SECONDS = 0.3
"""How long a replica has heard nothing when its master dies."""
STEP_SECONDS = SLOT_SECONDS + 0.15
"""A clock that steps ahead makes what was granted last look like long ago: it may be granted once
more."""


class Fault(NamedTuple):
    """`killed`: how many workers may have sent what they were granted last and could not settle.
    `within`: seconds until all is well again, where asked for. `forgets`: the store may lose what
    its replica had not heard of; `gone`: it loses everything there was. `seconds` of messages,
    where it takes longer than others. `slack`: seconds of its rate a limit may let pass early.
    `lacks` says what a machine or a server program lacks, "" for nothing."""

    what: str
    inject: Inject
    setting: Setting = Setting()
    killed: int = 0
    within: float | None = None
    forgets: bool = False
    gone: bool = False
    seconds: float = 0.0
    slack: float = SLOT_SECONDS
    lacks: Callable[[str], str] = lambda program: ""


def _faketime(program: str) -> str:
    if version(program).allocator.startswith("jemalloc"):
        return "faketime does not work with jemalloc"
    return "" if find_faketime() else "it needs Debian's package faketime"


def _mount(program: str) -> str:
    with TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder, "disk"), 1):
                return ""
        except PermissionError as error:
            return f"it {error}"


def _slot_at_once(program: str) -> str:
    found = version(program)
    return "" if found.name == "Valkey" and found.major >= 9 else "it needs Valkey 9.0 or later"


PROXIED = Setting(proxied=True)
SUPERVISED = Setting(supervised=True)
CLOCKED = Setting(clock=True)
SENTINEL = Setting("behind Sentinel")
CLUSTER = Setting("cluster")

WORKERS = {
    "kill": Fault("a worker is killed", does.kill, killed=1, within=LEASE_SECONDS + 2),
    "kill-supervised": Fault(
        "a worker under the supervisor is killed", does.kill, SUPERVISED, killed=1, within=1.0
    ),
    "kill-all": Fault("all workers are killed, three others start", does.kill_all, killed=3),
    "kill-supervisor": Fault(
        "the supervisor is killed, another one starts", does.kill_supervisor, SUPERVISED
    ),
    "failpoints": Fault(
        f"{len(DEADLY)} more workers die, each at another failpoint",
        does.die_everywhere, killed=len(DEADLY), seconds=20.0,
    ),
    "stop-short": Fault(
        "a worker is stopped for half its lease", partial(does.halt, LEASE_SECONDS / 2)
    ),
    "stop-long": Fault(
        "a worker is stopped for twice its lease", partial(does.halt, LONG), killed=1
    ),
    "stop-all": Fault(
        "all workers are stopped for twice their lease", partial(does.halt_all, LONG), killed=3
    ),
    "blocked-loop": Fault(
        "the event loop of a worker is blocked for twice its lease", partial(does.wait, LONG),
        Setting(failpoint=f"after_answer:900:{LONG:g}"), killed=1,
    ),
    "rolling": Fault("workers are replaced one by one", does.roll, within=1.0),
    "twice": Fault(
        "workers make every call to the store twice", partial(does.wait, does.TROUBLE_SECONDS),
        Setting(twice=True),
    ),
}  # fmt: skip
STORE = {
    "store-restart": Fault("the store is killed and starts again after 1 s", does.restart_store),
    "store-stop": Fault("the store is stopped for 20 s", does.halt_store),
    "store-stutter": Fault("the store is stopped for 0.3 s, ten times", does.stutter),
    "store-sleep": Fault(
        "DEBUG SLEEP for 5 s", partial(does.command, ("DEBUG", "SLEEP", "5"), 1, 0.0)
    ),
    "clients": Fault("every connection is closed by CLIENT KILL, ten times", does.kill_clients),
    "maxclients": Fault(
        "the store takes no more connections for 3 s (maxclients)",
        partial(does.shut_out, "maxclients", 1),
    ),
    "password": Fault(
        "the store has another password for 3 s", partial(does.shut_out, "requirepass", "other")
    ),
    "read-only": Fault("the store takes itself for a replica for 3 s", does.demote),
    "scripts": Fault(
        "SCRIPT FLUSH, ten times", partial(does.command, ("SCRIPT", "FLUSH"), 10, 0.2)
    ),
    "groups": Fault("XGROUP DESTROY of every queue", does.destroy_groups),
    "flush": Fault("FLUSHALL", partial(does.command, ("FLUSHALL",), 1, 0.0), gone=True),
    "file-lost": Fault("the store is killed and its file deleted", does.lose_file, gone=True),
    "rewrite": Fault("BGREWRITEAOF, ten times", does.rewrite_file),
    "memory": Fault("maxmemory is reached for 3 s", does.fill_memory),
    "disk": Fault(
        "the disk is full for 3 s (tmpfs)", does.fill_disk, Setting("on a small disk"), lacks=_mount
    ),
    "file-size": Fault("the append-only file cannot grow for 3 s (prlimit)", does.bound_file),
    "clock-forward": Fault(
        "the store's clock jumps 1 min ahead, 3 s later back", partial(does.step_clock, 60),
        CLOCKED, slack=STEP_SECONDS, lacks=_faketime,
    ),
    "clock-back": Fault(
        "the store's clock jumps 1 min back, 3 s later ahead", partial(does.step_clock, -60),
        CLOCKED, slack=STEP_SECONDS, lacks=_faketime,
    ),
}  # fmt: skip


def _failovers(name: str, whose: str, setting: Setting) -> dict[str, Fault]:
    """A master dies whose replica has heard of everything, or of less; the latter also where what
    is accepted waits for it."""
    behind = partial(does.lose_master, BEHIND_SECONDS)
    confirmed = setting._replace(confirm="replica")
    words = f"{whose}: the same, its replica {BEHIND_SECONDS:g} s behind"
    return {
        name: Fault(
            f"{whose}: the master is killed", partial(does.lose_master, 0.0), setting, forgets=True
        ),
        f"{name}-behind": Fault(words, behind, setting, forgets=True),
        f"{name}-confirmed": Fault(
            f'{words}, `confirm = "replica"`', behind, confirmed, forgets=True
        ),
    }


MASTERS = {
    **_failovers("sentinel", "Sentinel", SENTINEL),
    **_failovers("cluster", "Cluster", CLUSTER),
    "slot-by-key": Fault(
        "Cluster: the cell's slot moves key by key, for 1 s", partial(does.move_slot, False),
        CLUSTER,
    ),
    "slot-at-once": Fault(
        "Cluster: the cell's slot moves at once", partial(does.move_slot, True), CLUSTER,
        lacks=_slot_at_once,
    ),
}  # fmt: skip
NETWORK = {
    "replies": Fault("one reply in 20 of the store is lost, for 3 s", does.drop_replies, PROXIED),
    "delay": Fault("the store answers 30 ms later, for 3 s", partial(does.delay, 0.015), PROXIED),
    "long-delay": Fault(
        "the store answers 100 ms later, for 3 s", partial(does.delay, 0.05), PROXIED
    ),
    "cut": Fault("connections to the store are cut ten times", does.cut, PROXIED),
    "half-open": Fault("connections to the store are half open for 3 s", does.half_open, PROXIED),
}
PROVIDER = {
    "hang": Fault("the provider does not answer for 3 s", partial(does.answer_badly, "hang")),
    "reset": Fault(
        "the provider resets after one byte, for 3 s", partial(does.answer_badly, "reset")
    ),
    "500": Fault("the provider answers 500 for 3 s", partial(does.answer_badly, "500")),
    "garbage": Fault(
        "the provider answers what is not HTTP, for 3 s", partial(does.answer_badly, "garbage")
    ),
    "truncated": Fault(
        "the provider answers half a JSON body for 3 s", partial(does.answer_badly, "truncated")
    ),
    "partial": Fault(
        "the provider answers one of 20 messages for 3 s", partial(does.answer_badly, "partial"),
        Setting(batch=20),
    ),
    "refused": Fault("the provider refuses connections for 3 s", does.refuse),
    "provider-half-open": Fault(
        "connections to the provider are half open for 3 s", does.ignore
    ),
}  # fmt: skip
FAULTS = {**WORKERS, **STORE, **MASTERS, **NETWORK, **PROVIDER}
