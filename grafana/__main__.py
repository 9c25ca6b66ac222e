"""Writes every dashboard as JSON: `python -m grafana [FOLDER]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.board import Board
from grafana.overview import OVERVIEW
from grafana.providers import PROVIDERS
from grafana.reliability import RELIABILITY
from grafana.throttling import THROTTLING

BOARDS = (OVERVIEW, PROVIDERS, THROTTLING, RELIABILITY)
FOLDER = Path(__file__).with_name("dashboards")


def render() -> dict[str, str]:
    """The JSON of every dashboard, by the name of its file."""
    return {f"{board.name}.json": _encode(board) for board in BOARDS}


def _encode(board: Board) -> str:
    return (
        json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        + "\n"
    )


def main(args: list[str]) -> int:
    """Write the files into the folder that is named, or where they are committed."""
    folder = Path(args[0]) if args else FOLDER
    for name, text in render().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
