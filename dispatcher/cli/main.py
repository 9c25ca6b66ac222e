"""The `dispatcher` command: finds the subcommand, and turns every expected error into one line.

Exit codes: 0 done; 1 something failed, or the store does not know the id; 2 a command, option, name
or configuration is wrong; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from dispatcher import __version__, failpoints
from dispatcher.errors import ConfigError, DispatcherError, UsageError

COMMANDS = {
    "demo": ("dispatcher.cli.demo:demo", "Send a real campaign through simulated providers."),
    "run": ("dispatcher.cli.run:run", "Run the HTTP API and workers on this machine."),
    "api": ("dispatcher.cli.api:api", "Run the HTTP API."),
    "worker": ("dispatcher.cli.worker:worker", "Run workers."),
    "send": ("dispatcher.cli.send:send", "Submit the messages of a file."),
    "status": ("dispatcher.cli.status:status", "Show totals, a batch or a message."),
    "top": ("dispatcher.cli.top:top", "Watch lanes, rates, backlog and errors live."),
    "limits": ("dispatcher.cli.limits:limits", "Show limits, or set and reset their rates."),
    "explain": ("dispatcher.cli.explain:explain_", "Say what a message to an address would meet."),
    "lanes": ("dispatcher.cli.lanes:lanes", "Show what waits in every lane, and what for."),
    "suspend": ("dispatcher.cli.suspend:suspend_", "Let nothing of a lane pass for a while."),
    "resume": ("dispatcher.cli.suspend:resume", "Let a suspended lane go on."),
    "dead": ("dispatcher.cli.dead:dead", "List, show, replay, resolve or drop dead letters."),
    "cancel": ("dispatcher.cli.cancel:cancel", "Cancel what is not sent of a batch."),
    "move": ("dispatcher.cli.move:move", "Take what waits in a lane to another provider."),
    "audit": ("dispatcher.cli.audit:audit", "Show which operator did what, and when."),
    "config": ("dispatcher.cli.config:config", "Validate or print the configuration."),
    "completion": ("dispatcher.cli.completing:completion", "Print a script for your shell."),
    "simulator": ("dispatcher.cli.simulator:simulator", "Run fake providers."),
}
"""Name → where the command is, and its line in `--help`: only the one called is imported."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Raises UsageError that names the nearest command."""
        name = args[0]
        if not (name in COMMANDS or name.startswith("-") or ctx.resilient_parsing):
            near = get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "`dispatcher --help` lists all"
            raise UsageError(f"there is no command {name}; {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and lines as in `--help`, without importing a command."""
        commands = [
            CompletionItem(name, help=line)
            for name, (_, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.version_option(__version__, prog_name="dispatcher", message="%(prog)s %(version)s")
@click.option(
    "--config",
    metavar="FILE",
    help="Configuration; else $DISPATCHER_CONFIG, else ./dispatcher.toml.",
)
@click.pass_context
def root(ctx: click.Context, config: str | None) -> None:
    """Dispatch outbound messages through providers, within every limit.

    Exit codes: 0 done; 1 something failed, or the store does not know the id; 2 a command, option,
    name or configuration is wrong. Errors are one line on stderr.

    \b
    Example: dispatcher config check
             dispatcher send --help
    """
    ctx.obj = {"config": config}


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a command may return or `ctx.exit` its own."""
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
        code = root.main(args, prog_name="dispatcher", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (ConfigError, UsageError) as error:
        return _fail(str(error), 2)
    except DispatcherError as error:
        return _fail(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(str(error), 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    click.echo(f"dispatcher: {' '.join(message.split())}", err=True)
    return code
