"""`dispatcher api`: the HTTP API."""

from __future__ import annotations

import click

from dispatcher.cli.options import State, config_option, load_config, require_providers
from dispatcher.cli.running import run, start_log, stop_on_signals
from dispatcher.config import Config
from dispatcher.web.app import Api


@click.command()
@config_option
@click.option("--host", help="Address to listen on instead of [api] host.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Instead of [api] port; 0 = any free one."
)
@click.pass_obj
def api(state: State, host: str | None, port: int | None) -> None:
    """Take messages over HTTP and tell what became of them. What it takes, workers send.

    SIGTERM and Ctrl-C end it once the calls under way have their answers.

    \b
    Example: dispatcher api --port 8080
    """
    config = load_config(state, {"api.host": host, "api.port": port})
    require_providers(config, state)
    service = Api(config)
    start_log(config.log)
    run(_serve(service, config))


async def _serve(service: Api, config: Config) -> None:
    stop = stop_on_signals()
    click.echo(f"listening on {await service.start(config.api.host, config.api.port)}")
    await service.run(stop)
