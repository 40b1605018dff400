"""Options that many commands have, and what they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    from fairque.core.config import FairQueueConfig

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of settings. Beside a common.yaml it is laid over that one.",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The server: redis://, rediss://, unix:// or embedded://. Without --url and --config: the "
        "environment (FAIRQUE_REDIS__URL=…), then ./fairque.yaml, then localhost.",
    ),
]
QueueOption = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="The queue's name.")]
LogLevelOption = Annotated[
    str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


Process: TypeAlias = Literal["worker", "scheduler"]


def configuration(
    file: Path | None, url: str | None, queue: str | None, *, process: Process | None = None
) -> FairQueueConfig:
    """The settings that --config, --url and --queue mean together.

    Args:
        file: A whole configuration, or the file of a process beside a common.yaml.
        url: Of the server, over what the file says.
        queue: The queue's name; the same.
        process: What they are for. Without one, what concerns workers and schedulers stays out, and the
            users' policies too: whoever only looks, with whatever file, must not publish them anew, and may
            look at any server.

    Raises:
        ConfigurationError: One of them cannot be used; the message says why.
    """
    from fairque.core.config import FairQueueConfig, QueueConfig  # noqa: PLC0415
    from fairque.core.exceptions import ConfigurationError  # noqa: PLC0415

    if file is not None:
        config = _from_file(file, process)
    else:
        config = FairQueueConfig.load() if url is None else FairQueueConfig.from_url(url)
    if file is not None and url is not None:
        config = config.model_copy(update={"redis": FairQueueConfig.from_url(url).redis})
    if queue is not None:
        try:
            named = QueueConfig(**{**dict(config.queue), "name": queue})
        except ConfigurationError:
            raise ConfigurationError(
                f"--queue {queue}: a queue's name is made of letters, digits, _ . and -"
            ) from None
        config = config.model_copy(update={"queue": named})
    if process is not None:
        return config
    from fairque.queue.connect import TRUSTED  # noqa: PLC0415

    return FairQueueConfig(redis=config.redis.model_copy(update=TRUSTED), queue=config.queue)


def _from_file(file: Path, process: Process | None) -> FairQueueConfig:
    from fairque.core.config import FairQueueConfig, load_scheduler_config, load_worker_config  # noqa: PLC0415
    from fairque.core.config_loading import read_yaml  # noqa: PLC0415

    if file.name == "common.yaml" or not (file.parent / "common.yaml").exists():
        return FairQueueConfig.from_yaml(file)
    if process is None:
        process = (
            "scheduler" if read_yaml(file).keys() & {"scheduler", "worker"} == {"scheduler"} else "worker"
        )
    load = load_scheduler_config if process == "scheduler" else load_worker_config
    return load(file.stem, file.parent)
