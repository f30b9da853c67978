"""A file is there whole or not at all."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catalog.files import whole_file

# Writes half of a file, says so, and waits to be killed.
HALF = """
import sys, time
from catalog.files import whole_file
with whole_file(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def write(path: Path, content: Iterator[bytes | Exception]) -> None:
    """Write a file piece by piece, until one of them is an error."""
    with whole_file(path) as file:
        for piece in content:
            if isinstance(piece, Exception):
                raise piece
            file.write(piece)


def test_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    with whole_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_bytes(b"before")
    with pytest.raises(KeyError):
        write(path, iter([b"half", KeyError("the other half")]))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """The system lets this process write files of 1,000 bytes at most: an error like that of a full disk."""
    path = tmp_path / "b.txt"
    path.write_bytes(b"before")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write(path, iter([b"x" * 2000]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_do_not_write_into_each_others_file(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    begun = threading.Barrier(2)

    def write_slowly(content: bytes) -> None:
        with whole_file(path) as file:
            file.write(content)
            begun.wait(timeout=20)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_slowly, [b"one", b"other"]))
    assert path.read_bytes() in (b"one", b"other")
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_bytes(b"before")
    with subprocess.Popen([sys.executable, "-c", HALF, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert path.read_bytes() == b"before"
    # no other machine's, process's or thread's writer has it
    (unfinished,) = tmp_path.glob(f"b.txt.{socket.gethostname()}.{process.pid}.*.part")
    assert unfinished.read_bytes() == b"half"
