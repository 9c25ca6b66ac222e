"""A certificate for localhost that trusts itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

COMMAND = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
)


def can_create() -> bool:
    """Whether this machine has what it takes."""
    return shutil.which("openssl") is not None


def create(folder: Path) -> str:
    """Write a file with certificate and key; its path."""
    certificate, key, path = folder / "certificate", folder / "key", folder / "localhost.pem"
    made = [*COMMAND.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    path.write_bytes(certificate.read_bytes() + key.read_bytes())
    return str(path)
