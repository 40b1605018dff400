"""Options that many commands have, and what they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


def configuration(
    file: Path | None, url: str | None, queue: str | None, *, with_policies: bool = False
) -> FairQueueConfig:
    """The settings that --config, --url and --queue mean together.

    The users' policies stay out, unless asked for: whoever only looks, with whatever file, must not publish
    them anew, and may look at any server.
    """
    from fairque.core.config import FairQueueConfig, QueueConfig, load_worker_config  # noqa: PLC0415
    from fairque.core.exceptions import ConfigurationError  # noqa: PLC0415

    if file is not None and file.name != "common.yaml" and (file.parent / "common.yaml").exists():
        config = load_worker_config(file.stem, file.parent)
    elif file is not None:
        config = FairQueueConfig.from_yaml(file)
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
    if with_policies:
        return config
    from fairque.queue.connect import TRUSTED  # noqa: PLC0415

    return FairQueueConfig(redis=config.redis.model_copy(update=TRUSTED), queue=config.queue)
