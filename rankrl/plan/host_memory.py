"""How much of the host's memory a process has held."""

from __future__ import annotations

import re
import resource
from pathlib import Path


def host_peak() -> int:
    """Bytes that this process held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage, which on Linux starts at what the parent held
        (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        return int(kibibytes) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
