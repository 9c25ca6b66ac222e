"""Where the refused records of a file go: a CSV file, or one line each on stderr."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TextIO

from dispatcher.engine.ingest import Rejected
from dispatcher.errors import UsageError

LISTED = 1000
"""Records listed on stderr, at most."""


class Rejects:
    """Takes refused records; `line` prints one line where no `path` is given. `source` is the file
    they come from."""

    def __init__(self, path: str | None, line: Callable[[str], None], source: BinaryIO) -> None:
        self._path = path
        self._line = line
        self._source = source
        self._file: TextIO | None = None
        self.count = 0

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._open(Path(self._path))
            except OSError as error:
                raise UsageError(f"--rejects {self._path}: {error.strerror}") from None
        return self

    def _open(self, path: Path) -> TextIO:
        if path.exists() and os.path.samestat(path.stat(), os.fstat(self._source.fileno())):
            raise UsageError(f"--rejects {path} is the file to send")
        file = path.open("w", encoding="utf-8", newline="")
        file.write("line,record,code,detail\n")
        return file

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, line: int, reject: Rejected) -> None:
        """One more; `line` is where its record begins. Raises OSError when it cannot be kept."""
        self.count += 1
        detail = reject.detail.encode("utf-8", "backslashreplace").decode()
        if self._file is not None:
            row = (line, reject.index, reject.code, detail)
            csv.writer(self._file, lineterminator="\n").writerow(row)
        elif self.count <= LISTED:
            self._line(f"line {line}: {reject.code}: {detail}")
        elif self.count == LISTED + 1:
            self._line("more records refused; --rejects FILE lists all")
