"""The data model: every key name is built here (and, with the same words, in `lua/lib.lua`).

All keys read `<prefix>:<kind>:{<cell>}:<rest>`; the braces make a cell one Redis hash slot, so one
script may touch all of it. `<queue>` is `<lane>:<class>:<tenant>`.

kind       type    rest                    holds
lanes      zset    <provider>              lane -> time (us) at which it may next be visited
lane       hash    <lane>                  limits (space separated), depth:<class> (messages
                                           waiting), back:<class> (those of them in the queue of
                                           `~`), vt:<class> (virtual time), floor:<class>,
                                           w:<tenant>, until (suspended, us), sent, retried,
                                           deferred, dead, paused (us, until when), reason
fair       zset    <lane>:<class>          tenant -> virtual time
queue      stream  <queue>                 entries: n, c, batch, expires, body; a (the first a rows
                                           may have been sent), r (reclaims). Tenant `~`: put back
limit      hash    <name>                  interval (us per unit, 0 = no rate), burst, tat, step
                                           and units (the cost of its last slot, us), pause,
                                           factor, factored (us, when the factor was set),
                                           segments (1: a message counts its segments), ramp
                                           (intervals of the first days), born (us), quotas (1),
                                           quota:<period> (most), used:<period>, ends:<period>,
                                           next:<period> (us, the end of the next one), set (the
                                           interval an operator put above), set_until (us, 0 = for
                                           ever), waits (lane and worker that come next),
                                           served (the lane served last)
limits     set     -                       names of all limits ever written
breaker    hash    <provider>              state, fails, until (us), cooldown (us)
scheduled  zset    -                       item number -> due time (us)
items      hash    -                       item number -> packed {lane, class, n, c, batch,
                                           expires, body, a}
counter    string  -                       last item number
held       hash    <worker>                <queue>|<entry id> -> how many of its first rows may
                                           have been sent; #seq -> number of the last settle,
                                           and which of its entries were not the worker's
workers    zset    -                       worker -> last heartbeat (us)
batch      hash    <batch>                 total, left, scheduled, a count per status, dead:<code>,
                                           suppressed:<code>, retried, deferred, created (us),
                                           tenant, channel, options, cancel (no more of it is sent),
                                           p:<first index> (part guard)
submit     hash    <tenant>:<key>          body (check value), batch, at (us), answer; for 24 h
queued     string  -                       messages without an outcome, of all batches
queued_by  hash    -                       tenant -> its messages without an outcome
pair       string  <limit>:<recipient>     tat, tail and chain of one recipient (us)
status     hash    <batch>:<index // 1024> index -> value of messages.encode_record;
                                           <first>-<last> -> value of messages.encode_sheet, for
                                           messages without a field of their own; absent = queued
dead       zset    -                       message id -> time (us) it became dead or unknown
letters    hash    -                       message id -> msgpack of store.queue.Letter
errors     hash    <lane>                  error:<code> -> messages of the lane not accepted so
lease      string  <role>                  which process has a role that one at a time has: gauges
control    string  -                       change number: what workers must look at again; also
                                           the channel on which changes are announced
bell       list    <provider>              at most one token: wakes one waiting pump
"""

from __future__ import annotations

from typing import NamedTuple

STATUS_BLOCK = 1024
"""Messages per status hash."""


class Keys(NamedTuple):
    """Builds the key names of one cell."""

    prefix: str
    cell: str = "main"

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
