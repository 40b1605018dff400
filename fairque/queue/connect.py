"""From what the user gives (URL, configuration or nothing) to a configuration that can connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import ConfigurationError

if TYPE_CHECKING:
    from fairque.core.config import FairQueueConfig
    from fairque.utils.embedded import EmbeddedServer


# Of a server that is not looked at first: our own, or one that is only looked at.
TRUSTED: dict[str, Any] = {"allow_eviction": True, "allow_no_persistence": True}


class Connection:
    """The configuration to use, and the embedded server it keeps running, if it names one."""

    def __init__(self, source: str | FairQueueConfig | None) -> None:
        self.config = configuration_of(source)
        self._server: EmbeddedServer | None = None
        url = self.config.redis.url
        if url is not None and self.config.redis.is_embedded:
            from fairque.utils.embedded import EmbeddedServer  # noqa: PLC0415 - only where it is used

            self._server = EmbeddedServer.open(url)
            redis = self.config.redis.model_copy(
                update={"url": None, "unix_socket_path": self._server.socket_path, **TRUSTED}
            )
            self.config = self.config.model_copy(update={"redis": redis})

    def close(self) -> None:
        """Leave the embedded server; it stops when its last owner has left."""
        if self._server is not None:
            self._server.close()
            self._server = None


def configuration_of(source: str | FairQueueConfig | None) -> FairQueueConfig:
    """The configuration that a URL, a configuration or nothing stands for.

    Raises:
        ConfigurationError: It cannot be used; the message says why.
    """
    from fairque.core.config import FairQueueConfig  # noqa: PLC0415 - pydantic loads when it is used

    if source is None:
        return FairQueueConfig.load()
    if isinstance(source, str):
        return FairQueueConfig.from_url(source)
    if isinstance(source, FairQueueConfig):
        return source
    raise ConfigurationError(
        f"a queue is made from a URL, a FairQueueConfig or nothing, not from {type(source).__name__}"
    )
