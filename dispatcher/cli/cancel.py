"""`dispatcher cancel`: nothing more of a batch is sent."""

from __future__ import annotations

from typing import Any

import click

from dispatcher.cli.operating import acting, counted, print_json
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.engine.views import batch_view
from dispatcher.errors import NotFound, UsageError
from dispatcher.messages import is_ulid
from dispatcher.settings import Config
from dispatcher.store.opening import open_store
from dispatcher.store.submissions import Submissions


@click.command()
@config_option
@click.argument("batch")
@json_option
@click.pass_obj
def cancel(state: State, batch: str, as_json: bool) -> None:
    """Cancel what is not sent of BATCH. Messages that wait are counted as cancelled when a worker
    reaches them; what is on its way is not called back.

    \b
    Example: dispatcher cancel 01JD4Z3C7V9M2N8Q5R6S7T8V9W
    """
    if not is_ulid(batch):
        raise UsageError(f"{batch!r} is not a batch id")
    found = run(_cancel(load_config(state), batch))
    if as_json:
        print_json(found)
        return
    waiting = found["queued"] + found["scheduled"]
    click.echo(f"{batch}: cancelled, {counted(waiting, 'message')} of {found['total']:,} not sent")


async def _cancel(config: Config, batch: str) -> dict[str, Any]:
    async with open_store(config.store) as store:
        before = await store.inspector.batch(batch)
        providers = sorted({*config.providers, *await store.inspector.providers()})
        submissions = Submissions(store.client, store.keys)
        if before is None or not await submissions.cancel(
            batch, providers, acting("cancel", batch)
        ):
            raise NotFound(f"batch {batch} is not known in this store")
        return batch_view(before) | {"cancel": True}
