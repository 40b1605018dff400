"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe(server_version: str) -> dict[str, str | int]:
    """CPU, cores, memory, kernel, Python and server."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _field("/proc/meminfo", "MemTotal") or "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "server": server_version,
    }


def _field(path: str, name: str) -> str | None:
    file = Path(path)
    for line in file.read_text().splitlines() if file.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
