"""Virtual environments for the peers, one for each set of requirements, made once and kept in a folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

INSTALL_SECONDS = 300.0


class InstallError(RuntimeError):
    """A peer could not be installed; what pip said is in the message."""


def interpreter(cache: Path, name: str, requirements: Sequence[str]) -> str:
    """Return the interpreter of an environment that has `requirements`; make it if it is not there."""
    mark = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{mark}"
    python = folder / "bin" / "python"
    ready = folder / "ready"  # written last, so that an interrupted installation is done again
    if not ready.exists():
        started = time.monotonic()
        print(f"installing {' '.join(requirements)} in {folder} …", end=" ", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        _run([str(python), "-m", "compileall", "-q", "-j", "0", str(folder / "lib")], may_fail=True)
        frozen = _run([str(python), "-m", "pip", "freeze", "--disable-pip-version-check"])
        ready.write_text(frozen)
        print(f"{time.monotonic() - started:.0f} s")
    return str(python)


def versions(python: str) -> list[str]:
    """Return what an environment that `interpreter` made has installed."""
    return (Path(python).parent.parent / "ready").read_text().split()


def _run(command: Sequence[str], *, may_fail: bool = False) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{' '.join(command)} took longer than {INSTALL_SECONDS:g} s") from error
    if done.returncode and not may_fail:
        raise InstallError(f"{' '.join(command)} failed\n{done.stdout}{done.stderr}")
    return done.stdout
