"""All settings of FairQueue, and how they are loaded.

Durations are seconds: a number, or a `timedelta` from code. Every problem is a `ConfigurationError` that
names the file or the environment variable and the path of the key.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from fairque.core.exceptions import ConfigurationError
from fairque.core.redis_config import RedisConfig, SentinelConfig
from fairque.core.strict import PositiveSeconds, Seconds, StrictModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairque.core.config_loading import Layers

__all__ = [
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

MAX_ID_LENGTH = 256
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]


def _not_in_this_version(value: str, text: str) -> BeforeValidator:
    def check(given: object) -> object:
        if given == value:
            raise ValueError(text)
        return given

    return BeforeValidator(check)


class Retention(StrictModel):
    """How long an ended task and its result are kept, by the state it ended in."""

    finished: Seconds = Field(86_400.0, description="Seconds; one day.")
    failed: Seconds = Field(7 * 86_400.0, description="Seconds in the dead letter queue; seven days.")
    canceled: Seconds = Field(3_600.0, description="Seconds; one hour.")


class QueueConfig(StrictModel):
    """One queue. Producers and workers must agree on `name`, `prefix`, `shards` and `codec`."""

    name: str = Field(
        "default", pattern=r"^[A-Za-z0-9_.-]+$", description="Part of every key: A-Z a-z 0-9 _ . -"
    )
    prefix: str = Field("fq", pattern=r"^[A-Za-z0-9_.-]+$", description="Begins every key: A-Z a-z 0-9 _ . -")
    shards: int = Field(1, description="Hash tags that the users are spread over; 1 in this version.")
    lease_seconds: PositiveSeconds = Field(
        30.0,
        description="A running task is given to another worker this many seconds after its last heartbeat.",
    )
    ageing_seconds: Seconds = Field(
        60.0,
        le=1e7,
        description="Seconds of waiting that make up for one level of priority; 0 orders by age alone.",
    )
    cost: Annotated[
        Literal["tasks"], _not_in_this_version("time", '"time" comes in a later version; use "tasks"')
    ] = Field("tasks", description='What a user is charged for; "tasks" charges each task alike.')
    max_payload_bytes: int = Field(1_048_576, ge=1, description="Largest encoded payload, in bytes.")
    push_retry_window: Seconds = Field(
        60.0, description="Seconds during which a push is repeated while the server cannot be reached."
    )
    retention: Retention = Field(default_factory=Retention, description="How long ended tasks are kept.")
    max_retries: int = Field(3, ge=0, description="Retries of a failed task that sets no number of its own.")
    max_crashes: int = Field(3, ge=1, description="Lost leases after which a task counts as poisoned.")
    codec: Literal["json", "msgpack", "pickle"] = Field(
        "json", description="Encoding of arguments and results. Unpickling runs what the sender chose."
    )

    @field_validator("shards")
    @classmethod
    def _one_shard(cls, value: int) -> int:
        if value != 1:
            raise ValueError("must be 1: several shards come with cluster support, in a later version")
        return value


def _user_ids(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError("must be a list of user ids")  # noqa: TRY004 - pydantic collects ValueErrors
    for user in value:
        if not isinstance(user, str):
            raise ValueError(f"user id {user!r} must be text: put it in quotes")  # noqa: TRY004 - the same
        if not 1 <= len(user) <= MAX_ID_LENGTH:
            raise ValueError(f"a user id has 1 to {MAX_ID_LENGTH} characters, this one has {len(user)}")
    twice = [user for user, count in Counter(value).items() if count > 1]
    if twice:
        raise ValueError(f"listed twice: {', '.join(map(repr, twice))}")
    return value


def _user_ids_or_all(value: object) -> object:
    if isinstance(value, str) and value != "*":
        raise ValueError('must be a list of user ids, or "*" for all')
    return value if value == "*" else _user_ids(value)


class WorkerConfig(StrictModel):
    """One worker process: whom it serves, and how much at a time."""

    id: Id | None = Field(None, description="Name of the process; unset lets the worker generate one.")
    assigned_users: Annotated[list[str], BeforeValidator(_user_ids)] = Field(
        default_factory=list, description="Users served first; none assigned means all users alike."
    )
    steal_targets: Annotated[list[str] | Literal["*"], BeforeValidator(_user_ids_or_all)] = Field(
        default_factory=list, description='Users served when no assigned user has ready tasks; "*" is all.'
    )
    concurrency: int = Field(10, ge=1, description="Tasks run at the same time.")
    graceful_shutdown_timeout: Seconds = Field(
        30.0, description="Seconds that running tasks get to end when the worker is stopped."
    )

    @model_validator(mode="after")
    def _nobody_is_assigned_and_stolen_from(self) -> Self:
        both = [
            user for user in self.assigned_users if user in self.steal_targets and self.steal_targets != "*"
        ]
        if both:
            names = ", ".join(map(repr, both))
            raise ValueError(f"assigned_users and steal_targets both list {names}: leave each in one of them")
        return self


class SchedulerConfig(StrictModel):
    """One scheduler process."""

    id: Id | None = Field(None, description="Name of the process; unset lets the scheduler generate one.")


class UserPolicy(StrictModel):
    """A user's share and limits. Unset is no limit."""

    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="Share relative to other users.")
    max_concurrency: int | None = Field(None, ge=1, description="Tasks running at the same time.")
    rate: float | None = Field(None, gt=0, allow_inf_nan=False, description="Tasks started per second.")
    burst: int | None = Field(None, ge=1, description="Tasks that may start at once before `rate` holds.")
    max_queued: int | None = Field(None, ge=1, description="Waiting tasks beyond which a push is refused.")
    paused: bool = Field(False, description="Keeps accepting tasks, starts none.")

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> Self:
        if self.burst is not None and self.rate is None:
            raise ValueError("burst has no effect without rate")
        return self


Process = TypeVar("Process", WorkerConfig, SchedulerConfig)


class FairQueueConfig(StrictModel):
    """Everything: the server, the queue, the workers by name, the scheduler, and the users' policies."""

    redis: RedisConfig = Field(default_factory=RedisConfig, description="How to reach the server.")
    queue: QueueConfig = Field(default_factory=QueueConfig, description="What producers and workers share.")
    workers: dict[Id, WorkerConfig] = Field(default_factory=dict, description="Workers by name.")
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig, description="The scheduler.")
    users: dict[str, UserPolicy] = Field(default_factory=dict, description="Policies by user id.")

    @field_validator("workers")
    @classmethod
    def _named_and_disjoint(cls, workers: dict[str, WorkerConfig]) -> dict[str, WorkerConfig]:
        named = {name: _named(worker, name) for name, worker in workers.items()}
        found = "; ".join(_shared(named))
        if found:
            raise ValueError(found)
        return named

    @field_validator("users")
    @classmethod
    def _policies_are_enforced_or_refused(cls, users: dict[str, UserPolicy]) -> dict[str, UserPolicy]:
        _user_ids(list(users))
        changed = [repr(user) for user, policy in users.items() if policy != UserPolicy()]
        if changed:
            raise ValueError(
                "user policies are not enforced by this version, so only the default policy is accepted: "
                f"remove those of {', '.join(changed)}"
            )
        return users

    @property
    def worker(self) -> WorkerConfig:
        """The only worker; the defaults if none is configured."""
        if len(self.workers) > 1:
            raise ConfigurationError(
                f"workers: several are configured ({', '.join(self.workers)}): name one, as workers[name]"
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


def _named(process: Process, name: str) -> Process:
    return process if process.id else process.model_copy(update={"id": name})


def _shared(workers: dict[str, WorkerConfig]) -> Iterator[str]:
    """What two workers must not share: an assigned user, an id."""
    owners: dict[str, str] = {}
    ids: dict[str | None, str] = {}
    for name, worker in workers.items():
        for user in worker.assigned_users:
            if owners.setdefault(user, name) != name:
                yield f"user {user!r} is assigned to both {owners[user]!r} and {name!r}"
        if ids.setdefault(worker.id, name) != name:
            yield f"{ids[worker.id]!r} and {name!r} have the same id {worker.id!r}"


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
    scheduler = (
        config.scheduler if config.scheduler.id else SchedulerConfig(**{**dict(config.scheduler), "id": name})
    )
    return config.model_copy(update={"workers": {}, "scheduler": scheduler})


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
