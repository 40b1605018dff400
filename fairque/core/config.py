"""All settings of FairQueue, and how they are loaded.

Durations are seconds: a number, or a `timedelta` from code. Every problem is a `ConfigurationError` that
names the file or the environment variable and the path of the key.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, create_model, field_validator

from fairque.core.exceptions import ConfigurationError
from fairque.core.keys import DEFAULT
from fairque.core.redis_config import RedisConfig, SentinelConfig
from fairque.core.strict import PositiveSeconds, Seconds, StrictModel, refuse
from fairque.core.units import LONGEST
from fairque.core.user_policy import LARGEST, UserPolicy
from fairque.core.worker_config import Id, SchedulerConfig, WorkerConfig, named, shared_by_mistake, user_ids

if TYPE_CHECKING:
    from fairque.core.config_loading import Layers

__all__ = [
    "Durability",
    "FairQueueConfig",
    "QueueConfig",
    "RedisConfig",
    "Retention",
    "SchedulerConfig",
    "SentinelConfig",
    "UserPolicy",
    "WorkerConfig",
    "load_scheduler_config",
    "load_worker_config",
]


class Retention(StrictModel):
    """How long an ended task and its result are kept, by the state it ended in."""

    shows_values: ClassVar[bool] = True

    finished: Seconds = Field(86_400.0, description="Seconds; one day.")
    failed: Seconds = Field(7 * 86_400.0, description="Seconds in the dead letter queue; seven days.")
    canceled: Seconds = Field(3_600.0, description="Seconds; one hour.")


class Durability(StrictModel):
    """What a durable push waits for, before it returns."""

    shows_values: ClassVar[bool] = True

    replicas: int = Field(1, ge=0, description="Replicas that must have it.")
    disk: bool = Field(
        False,
        description="It must be on disk too, here and on those replicas: WAITAOF, which needs Redis ≥ 7.2 or "
        "Valkey with an append-only file.",
    )
    timeout: PositiveSeconds = Field(
        2.0, description="Seconds to wait; at most four fifths of redis.socket_timeout."
    )


class QueueConfig(StrictModel):
    """One queue. Producers and workers must agree on `name`, `prefix`, `shards` and `codec`."""

    shows_values: ClassVar[bool] = True

    name: str = Field(
        "default", pattern=r"^[A-Za-z0-9_.-]+$", description="Part of every key: A-Z a-z 0-9 _ . -"
    )
    prefix: str = Field("fq", pattern=r"^[A-Za-z0-9_.-]+$", description="Begins every key: A-Z a-z 0-9 _ . -")
    shards: int = Field(
        1,
        ge=1,
        le=128,
        description="Hash tags that the users are spread over, so that a cluster's nodes share the work. "
        "It can be changed only while the queue is empty.",
    )
    lease_seconds: PositiveSeconds = Field(
        30.0,
        description="A running task is given to another worker this many seconds after its last heartbeat.",
    )
    ageing_seconds: Seconds = Field(
        60.0,
        le=1e7,
        description="Seconds of waiting that make up for one level of priority; 0 orders by age alone.",
    )
    cost: Literal["tasks", "time"] = Field(
        "tasks",
        description='What users are charged for: "tasks" charges each alike, "time" the seconds it runs.',
    )
    max_queued: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Waiting tasks of all users beyond which a push is refused; each shard takes its part.",
    )
    max_payload_bytes: int = Field(
        1_048_576, ge=1, description="Largest encoded payload or result, in bytes."
    )
    max_xcom_bytes: int = Field(262_144, ge=1, description="Largest encoded XCom value, in bytes.")
    xcom_ttl: PositiveSeconds = Field(
        86_400.0,
        le=LONGEST,
        description="Seconds an XCom value is kept that sets no time of its own; one day.",
    )
    push_retry_window: Seconds = Field(
        60.0,
        description="Seconds an ended task stays known at the least, so that a push repeated after a lost "
        "reply adds nothing, even where results are not kept.",
    )
    retention: Retention = Field(default_factory=Retention, description="How long ended tasks are kept.")
    durable: bool = Field(False, description="Whether pushes are durable that do not say it themselves.")
    durability: Durability = Field(default_factory=Durability, description="What a durable push waits for.")
    max_retries: int = Field(3, ge=0, description="Retries of a failed task that sets no number of its own.")
    max_crashes: int = Field(3, ge=1, description="Lost leases after which a task counts as poisoned.")
    unknown_task_grace: Seconds = Field(
        600.0,
        description="Seconds that a task waits for a worker that knows its function, from when a worker that "
        "does not has met it; then it fails as invalid. 0 fails it at once.",
    )
    codec: Literal["json", "msgpack", "pickle"] = Field(
        "json", description="Encoding of arguments and results. Unpickling runs what the sender chose."
    )


def _is_nearly_default(user: str) -> bool:
    near = 0.85  # two letters that changed places, one too many or too few
    return user.isalpha() and SequenceMatcher(None, user.lower(), DEFAULT).ratio() >= near


class FairQueueConfig(StrictModel):
    """Everything: the server, the queue, the workers by name, the scheduler, and the users' policies."""

    redis: RedisConfig = Field(default_factory=RedisConfig, description="How to reach the server.")
    queue: QueueConfig = Field(default_factory=QueueConfig, description="What producers and workers share.")
    workers: dict[Id, WorkerConfig] = Field(default_factory=dict, description="Workers by name.")
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig, description="The scheduler.")
    users: dict[str, UserPolicy] = Field(
        default_factory=dict, description="Policies by user id; those of `default` hold for all others."
    )

    @field_validator("workers")
    @classmethod
    def _named_and_disjoint(cls, workers: dict[str, WorkerConfig]) -> dict[str, WorkerConfig]:
        workers = {name: named(worker, name) for name, worker in workers.items()}
        refuse(shared_by_mistake(workers))
        return workers

    @field_validator("users")
    @classmethod
    def _named_by_user_ids(cls, users: dict[str, UserPolicy]) -> dict[str, UserPolicy]:
        user_ids(list(users))
        if DEFAULT not in users:
            refuse(
                f"{user!r} is nearly {DEFAULT}: write {DEFAULT} for the policy of all users; if this is a "
                f"user, add an entry {DEFAULT}: {{}} as well"
                for user in users
                if _is_nearly_default(user)
            )
        return users

    @property
    def policies(self) -> dict[str, UserPolicy] | None:
        """The policies to publish; None where the configuration has no section `users` and leaves all be."""
        return self.users if "users" in self.model_fields_set else None

    @property
    def worker(self) -> WorkerConfig:
        """The only worker; the defaults if none is configured."""
        if len(self.workers) > 1:
            raise ConfigurationError(
                f"workers: several are configured ({', '.join(self.workers)}) and one is needed: give each a "
                "file of its own beside a common.yaml, or in code take one of config.workers"
            )
        return next(iter(self.workers.values()), WorkerConfig())

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The server at `url`; everything else from the environment."""
        layers = _layers()
        layers.overlay_environment(cls)
        layers.overlay({"redis": {"url": url}}, lambda _: "the url given")
        return layers.validate(cls)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """A file, with the environment on top."""
        layers = _layers()
        layers.overlay_file(Path(path))
        layers.overlay_environment(cls)
        return layers.validate(cls)

    @classmethod
    def load(cls) -> Self:
        """What counts when nothing is given: the environment, then `fairque.yaml` here, then localhost."""
        path = Path("fairque.yaml")
        if path.exists():
            return cls.from_yaml(path)
        layers = _layers()
        layers.overlay_environment(cls)
        return layers.validate(cls)


def load_worker_config(name: str, config_dir: str | Path = "config") -> FairQueueConfig:
    """`common.yaml`, then `<name>.yaml` with its `worker:` section, then the environment.

    The other workers' files are read too: no user may be assigned to two of them.
    """
    layers = _process_layers("worker", name, Path(config_dir))
    layers.nest("worker", "workers", name)
    for path in sorted(Path(config_dir).glob("*.yaml")):
        if path.stem not in {"common", name}:
            _overlay_sibling(layers, path)
    config = layers.validate(FairQueueConfig)
    return config.model_copy(update={"workers": {name: config.workers[name]}})


def load_scheduler_config(name: str, config_dir: str | Path = "config") -> FairQueueConfig:
    """`common.yaml`, then `<name>.yaml` with its `scheduler:` section, then the environment."""
    layers = _process_layers("scheduler", name, Path(config_dir))
    layers.nest("worker", "workers", name)
    config = layers.validate(FairQueueConfig)
    # Defaults for workers may stand in common.yaml; they are checked, but they make no worker here.
    return config.model_copy(update={"workers": {}, "scheduler": named(config.scheduler, name)})


def _process_layers(kind: str, name: str, folder: Path) -> Layers:
    if name in {"", ".", "..", "common"} or "/" in name or "\\" in name:
        raise ConfigurationError(
            f"{name!r} cannot name a {kind}: give the name of its file, without folder and .yaml"
        )
    layers = _layers()
    for path in (folder / "common.yaml", folder / f"{name}.yaml"):
        layers.overlay_file(path)
        if "workers" in layers.data:
            raise ConfigurationError(
                f"{path}: workers: give each worker a file of its own, with a section worker:"
            )
    if kind not in layers.last:
        raise ConfigurationError(
            f"{folder / name}.yaml: {kind}: this section is missing; it may be empty ({kind}: {{}})"
        )
    fields: dict[str, Any] = {
        key: (field.annotation, field) for key, field in FairQueueConfig.model_fields.items()
    }
    del fields["workers"]
    layers.overlay_environment(create_model("ProcessConfig", **fields, worker=(WorkerConfig, None)))
    return layers


def _overlay_sibling(layers: Layers, path: Path) -> None:
    """Of another worker's file, only what the workers must not share."""
    sibling = _layers()
    sibling.overlay_file(path.with_name("common.yaml"))
    sibling.overlay_file(path)
    worker = sibling.data.get("worker")
    if "worker" in sibling.last and isinstance(worker, dict):
        shared = {key: worker[key] for key in ("assigned_users", "id") if key in worker}
        layers.overlay({"workers": {path.stem: shared}}, lambda _: str(path))


def _layers() -> Layers:
    from fairque.core.config_loading import Layers  # noqa: PLC0415 - a configuration made in code needs no YAML

    return Layers()
