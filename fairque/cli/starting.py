"""What the commands that run for long do first: the log, the modules, a look at the server."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from typing import TYPE_CHECKING

from fairque.core.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairque.queue.queue import TaskQueue

logger = logging.getLogger("fairque.worker")


def start_logging(level: str) -> None:
    """Log to stderr, for --log-level.

    Raises:
        ConfigurationError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigurationError(f"--log-level {level}: must be debug, info, warning or error")
    logging.basicConfig(level=number, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def import_tasks(modules: Iterable[str]) -> None:
    """Import modules from the current folder or the Python path, which registers their tasks.

    Raises:
        ConfigurationError: One cannot be imported; the message says why, and in which line.
    """
    sys.path.insert(0, "")
    for name in modules:
        check_name(name)
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise no_module(name) from error
            raise ConfigurationError(f"module {name!r} cannot be imported: {_where(error)}") from error
        except (Exception, SystemExit) as error:
            raise ConfigurationError(f"module {name!r} cannot be imported: {_where(error)}") from error


def check_name(module: str) -> None:
    """Refuse the name of a file.

    Raises:
        ConfigurationError: It is one.
    """
    if module.endswith(".py") or "/" in module:
        hint = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigurationError(f"{module} is a file: give the module's name, {hint}")


def no_module(name: str) -> ConfigurationError:
    """That a module cannot be found."""
    return ConfigurationError(
        f"there is no module {name!r}: start in the folder that holds it, or set PYTHONPATH"
    )


def tell_problems(queue: TaskQueue) -> None:
    """Log what is wrong with the server or the queue.

    Raises:
        ServerError: The server cannot be used.
    """
    for problem in queue.health().problems:
        logger.warning("%s", problem)
    if queue.stats().paused:
        logger.warning("the queue is paused and starts nothing: fairque resume lets it go on")


def _where(error: BaseException) -> str:
    """The error and the line of the user's code that raised it, in one line."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({frame.filename}:{frame.lineno})"
