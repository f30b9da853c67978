"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from threading import get_ident
from typing import BinaryIO


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file beside its place, and put it there in one step when all of it is on the disk.

    A process that is killed or a disk that is full leaves what was there before; the killed one also leaves its
    unfinished file, `NAME.HOST.PID.THREAD.part`, which nobody deletes. Folders that are missing are made.

    Args:
        path: of the file.

    Raises:
        OSError: if it cannot be written; nothing is left of it then.

    Example:
        >>> with whole_file("runs/manifest.json") as file:
        ...     file.write(json.dumps(manifest).encode())
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several threads and processes may write the same one, on several machines that share a disk.
    unfinished = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.{get_ident()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
