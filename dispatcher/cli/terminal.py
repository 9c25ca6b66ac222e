"""A terminal as a live view uses it: left as it was found; only changed lines are written, and keys
come as they are pressed."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Terminals that know these show all changes at once."""
KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up",
    b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b" ": "page down",
    b"\x1b[H": "home", b"\x1b[1~": "home",
}  # fmt: skip
LONGEST = max(map(len, KEYS))


class Terminal:
    """Takes over the terminal for the time of a `with`. `pressed` gets each key: a character, or a
    name of `KEYS`."""

    def __init__(self, console: Console, pressed: Callable[[str], None]) -> None:
        self._console = console
        self._pressed = pressed
        self._shown: list[str] = []
        self._size = (0, 0)
        self._keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Self:
        if self._keyboard is not None:
            self._before = termios.tcgetattr(self._keyboard)
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, _unbuffered(self._keyboard))
            asyncio.get_running_loop().add_reader(self._keyboard, self._read, self._keyboard)
        self._write(ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write(LEAVE)
        if self._keyboard is not None and self._before is not None:
            asyncio.get_running_loop().remove_reader(self._keyboard)
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        return self._console.size

    def show(self, lines: Sequence[Text]) -> None:
        """Have the screen show these lines; only those that changed are written."""
        if self.size != self._size:
            self._size, self._shown = self.size, []
        drawn = [self._drawn(line) for line in lines]
        changes = [
            f"\x1b[{at + 1};1H{line}\x1b[0m\x1b[K"
            for at, line in enumerate(drawn)
            if at >= len(self._shown) or self._shown[at] != line
        ]
        if not self._shown:
            changes.insert(0, "\x1b[2J")
        self._shown = drawn
        if changes:
            self._write(BEGIN + "".join(changes) + END)

    def _drawn(self, line: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(line, end="", no_wrap=True, crop=True, soft_wrap=True)
        return captured.get()

    def _read(self, keyboard: int) -> None:
        data = os.read(keyboard, 1024)
        if not data:
            asyncio.get_running_loop().remove_reader(keyboard)
        while data:
            known = next((data[:n] for n in range(LONGEST, 0, -1) if data[:n] in KEYS), None)
            if known is not None:
                self._pressed(KEYS[known])
            elif data[0] < 0x80:
                self._pressed(chr(data[0]))
            data = data[len(known or b"?") :]

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


def _unbuffered(keyboard: int) -> list[int | list[bytes | int]]:
    """Keys come at once and unseen; Ctrl-C still interrupts, Ctrl-Z would leave the screen as it
    is."""
    mode = termios.tcgetattr(keyboard)
    mode[3] &= ~(termios.ICANON | termios.ECHO)
    mode[6][termios.VSUSP] = b"\x00"
    return mode
