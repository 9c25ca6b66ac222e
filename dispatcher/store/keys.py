"""The data model: every key name is built here (and, with the same words, in `lua/lib.lua`).

All keys read `<prefix>:<kind>:{<cell>}:<rest>`; the braces make a cell one Redis hash slot, so one
script may touch all of it. `<queue>` is `<lane>:<class>:<tenant>`.

A provider lives in one cell (`main` unless its table names another), with everything of its lanes:
lanes, lane, fair, queue, breaker, scheduled, held, workers, dead, bell, and the statuses of what
its lanes did last. A batch has a hash in every cell that has messages of it; the parts it names in
the main cell are complete. A limit over several cells is there in each, with its share. Only in the
main cell are submit, pair and places.

kind       type    rest                    holds
lanes      zset    <provider>              lane -> time (us) at which it may next be visited
lane       hash    <lane>                  limits (space separated), depth:<class> (messages
                                           waiting), back:<class> (those of them in the queue of
                                           `~`), vt:<class> (virtual time), floor:<class>,
                                           w:<tenant>, sent, retried, deferred, dead, paused
                                           (us, until when), idle (us, since when it is empty, and
                                           what had gone through it by then)
suspended  hash    -                       pattern of lanes -> change number, us until when, reason
resumed    hash    -                       pattern -> change number: suspensions before it do not
                                           hold for its lanes
providers  hash    -                       provider that had messages -> when a worker claimed of
                                           it (us, to some seconds; 0 = never)
fair       zset    <lane>:<class>          tenant -> virtual time
queue      stream  <queue>                 entries: n, c, batch, expires, body; a (the first a rows
                                           may have been sent), r (reclaims). Tenant `~`: put back
limit      hash    <name>                  interval (us per unit, 0 = no rate), burst, tat, step
                                           and units (the cost of its last slot, us), pause,
                                           factor, factored (us, when the factor was set),
                                           segments (1: a message counts its segments), ramp
                                           (intervals of the first days), born (us), quotas (1),
                                           quota:<period> (most), used:<period>, ends:<period>,
                                           next:<period> (us, the end of the next one),
                                           since:<period> (us, when those were written), set (the
                                           interval an operator put above), set_until (us, 0 = for
                                           ever), waits (lines of lane and worker: who comes next),
                                           served (the lane served last)
limits     set     -                       names of all limits ever written
breaker    hash    <provider>              state, fails, until (us), cooldown (us)
scheduled  zset    -                       item number -> due time (us); `+` before the number: it
                                           waits for so long, not until a time that was named
items      hash    -                       item number -> packed {lane, class, n, c, batch,
                                           expires, body, a, r}
counter    string  -                       last item number
held       hash    <worker>                <queue>|<entry id> -> how many of its first rows may
                                           have been sent; #seq -> number of the last settle,
                                           and which of its entries were not the worker's;
                                           #trial -> the entry it tries that others died with,
                                           #lease -> its lease (us), #claim:<provider> -> number
                                           of its last claim
workers    zset    -                       worker -> last heartbeat (us); 0: being taken over
batch      hash    <batch>                 total, left, scheduled, a count per status, dead:<code>,
                                           suppressed:<code>, retried, deferred, created (us),
                                           tenant, channel, options, cancel (no more of it is sent),
                                           lanes (up to 8, `*`: and others), due (us, the latest),
                                           p:<first index> (part guard; in other cells than the
                                           main one with the messages that came there), i:<first
                                           index> (cells to which a part may have gone that is not
                                           accepted yet), spread (1: is or was in several cells),
                                           reopened (1: forgotten, and known again by its dead
                                           letters)
submit     hash    <tenant>:<key>          body (check value), batch, at (us), answer; for 24 h
queued     string  -                       messages without an outcome, of all batches
queued_by  hash    -                       tenant -> its messages without an outcome
pair       string  <limit>:<recipient>     tat, tail and chain of one recipient (us), and `back` of
                                           clock when they were written
places     set     -                       <cell>/<provider>: where providers ever had their lanes,
                                           all but main/<provider>
status     hash    <batch>:<index // 1024> index -> value of messages.encode_record;
                                           <first>-<last> -> value of messages.encode_sheet, for
                                           messages without a field of their own; absent = queued
leaving    hash    -                       name of a move to another cell -> packed {due, lane,
                                           class, n, c, batch, expires, body, a, r, waits}: due
                                           is a length (us) if it waits; still counted here
arrived    string  <name of a move>        it came into this cell; for 24 h
dead       zset    -                       message id -> time (us) it became dead or unknown
letters    hash    -                       message id -> msgpack of store.queue.Letter
audit      zset    -                       action of an operator -> time (us)
actions    hash    -                       action -> msgpack {who, what, on, detail, reason, count}
totals     hash    -                       sent, retried, deferred, dead: of all lanes
errors     hash    <lane>                  error:<code> -> messages of the lane not accepted so
lease      string  <role>                  which process has a role that one at a time has: gauges
control    string  -                       change number: what workers must look at again; also
                                           the channel on which changes are announced
janitor    hash    -                       worker and until (us): who has the task; step, position,
                                           items, letters, <both>:times: how far it came; queued,
                                           server, unfinished: what its round began with and saw
clock      hash    -                       seen (us, the highest time, to a quarter of a second),
                                           back (us it has stepped back, in all), steps (lines of
                                           last item number, us, score: what was scheduled by
                                           then and is not yet moved, from that score on)
confirm    string  -                       written before the server is asked whether all is safe
bell       list    <provider>              at most one token: wakes one waiting pump
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from dispatcher.settings import MAIN_CELL

STATUS_BLOCK = 1024
"""Messages per status hash."""


class Keys(NamedTuple):
    """Builds the key names of one cell. `places` are the cells of the providers, those that are not
    named being in the main one; `retired` are cells that no configured provider is in any more. All
    cells of a store have the same of both."""

    prefix: str
    cell: str = MAIN_CELL
    places: Mapping[str, str] = MappingProxyType({})
    retired: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """The hash tag as it stands in keys."""
        return "{" + self.cell + "}"

    def name(self, kind: str, rest: str = "") -> str:
        """The key of `kind` (see the table above)."""
        key = f"{self.prefix}:{kind}:{self.tag}"
        return f"{key}:{rest}" if rest else key

    def status(self, batch: str, block: int) -> str:
        """The status hash of messages `block * 1024` up to the next block."""
        return self.name("status", f"{batch}:{block}")

    def place(self, lane: str) -> str:
        """The cell of a lane, or of a provider."""
        return self.places.get(lane.partition("/")[0], MAIN_CELL)

    def all(self) -> dict[str, Keys]:
        """The keys of every cell by its name, the main one first."""
        names = dict.fromkeys((MAIN_CELL, *self.places.values(), *self.retired))
        return {name: self._replace(cell=name) for name in names}

    @property
    def several(self) -> bool:
        """Whether there are more cells than the main one."""
        return bool(self.retired) or any(cell != MAIN_CELL for cell in self.places.values())
