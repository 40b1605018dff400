"""What `fairque --help` costs."""

from __future__ import annotations

import subprocess
import sys

DEAR = ("redis", "pydantic", "rich", "yaml", "cronsim", "fairque.queue.queue", "fairque.scheduler.scheduler")


def test_the_command_line_loads_what_a_command_needs_when_it_runs() -> None:
    code = f"import sys, fairque.cli; print([name for name in {DEAR} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
