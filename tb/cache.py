"""The build cache: one directory per hash of everything a build depends on."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .tools import cache_directory

#: Builds that nobody used for so many days are removed when a new one is made.
KEEP_DAYS = 30


def key(*parts: str) -> str:
    """A name for a build, from every text that it depends on."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


def cached(kind: str, name: str, build: Callable[[Path], None]) -> Path:
    """The directory of build `name`, made by `build(directory)` if it does not exist yet.

    Safe against concurrent calls: one process builds, the others wait for it; a build that fails or
    is interrupted leaves nothing behind.

    Parameters
    ----------
    kind
        Sort of build; the folder in the cache.
    name
        From :func:`key`.
    build
        Fills an empty directory; what it raises is passed on. The directory is renamed afterwards,
        so nothing in it may remember its own path.
    """
    folder = cache_directory() / kind
    final = folder / name
    if not final.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / f"{name}.lock"):
            if not final.is_dir():
                _prune(folder)
                fresh = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder))
                try:
                    build(fresh)
                    fresh.rename(final)
                finally:
                    shutil.rmtree(fresh, ignore_errors=True)
    os.utime(final)
    return final


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; other processes (and threads) wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prune(folder: Path) -> None:
    oldest = time.time() - KEEP_DAYS * 86400
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime < oldest:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
