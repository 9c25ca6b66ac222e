"""What a tenant may not do from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cli.command import HI, Commands, csv_of, number
from tests.cli.inside import Inside

HOOK = '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n'


def test_a_class_that_is_not_open_to_a_tenant_is_refused(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path]
) -> None:
    config_file(HOOK + '[tenants.acme]\nclasses = ["urgent"]\n')
    commands.write("rows.csv", csv_of([f"{number(1)},Ann"]))
    result = inside.send("rows.csv", *HI, "--tenant", "acme")
    line = "dispatcher: class 'bulk' is not open to tenant acme; allowed: urgent"
    assert (result.code, result.err) == (2, [line])
    assert inside.send("rows.csv", *HI, "--tenant", "acme", "--class", "urgent").code == 0


def test_a_part_that_a_tenant_can_never_have_queued_is_refused(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path]
) -> None:
    config_file(HOOK + "[tenants.acme]\nmax_queued = 10\n")
    commands.write("rows.csv", csv_of(f"{number(index)},Ann" for index in range(20)))
    result = inside.send("rows.csv", *HI, "--tenant", "acme")
    line = "dispatcher: [tenants.acme] max_queued = 10 is less than 20 at a time"
    assert (result.code, result.err) == (2, [line])
