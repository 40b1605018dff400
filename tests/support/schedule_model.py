"""Schedules in plain Python, to compare the real ones with. Time counts in half hours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

WAITING = 4  # tasks that the limited user may have


@dataclass(frozen=True)
class Said:
    """What a schedule is. It fires every so many half hours until its end."""

    every: int
    catch_up: str = "latest"
    max_catch_up: int = 100
    overlap: str = "allow"
    end: int | None = None

    def has_timing_of(self, other: Said) -> bool:
        return (self.every, self.end) == (other.every, other.end)


@dataclass
class ModelSchedule:
    """A schedule, and what it has done."""

    said: Said
    active: bool
    anchor: int
    fire: int | None = None
    revision: int = 0
    fired: int = 0
    skipped: int = 0
    failures: int = 0
    last_fire: int | None = None
    last_task: int | None = None

    def after(self, time: int) -> int | None:
        every = self.said.every
        fire = self.anchor + every * max(1, (time - self.anchor) // every + 1)
        return None if self.said.end is not None and fire > self.said.end else fire


@dataclass(frozen=True)
class Waiting:
    """A task that waits: which schedule has pushed it, and for when."""

    number: int
    schedule: str
    fire: int


@dataclass
class Model:
    """All schedules by user and id, and the tasks that wait by user."""

    limited: str
    clock: int = 0
    schedules: dict[tuple[str, str], ModelSchedule] = field(default_factory=dict)
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    pushed: int = 0
    changes: int = 0

    # --- changing ---

    def put(self, name: tuple[str, str], said: Said, *, active: bool) -> None:
        """Add one, or put it in the place of what is there."""
        self.changes += 1
        known = self.schedules.get(name)
        new = ModelSchedule(said, active, self.clock) if known is None else replace(known)
        goes_on = known is not None and known.active and said.has_timing_of(known.said)
        if known is not None and said.every != known.said.every:
            new.anchor = self.clock
        new.said, new.active, new.revision = said, active, self.changes
        if not active:
            new.fire = None
        elif not goes_on:
            new.fire = new.after(self.clock)
        self.schedules[name] = new

    def would_end(self, name: tuple[str, str], said: Said, *, active: bool) -> bool:
        """Whether that is refused: its end has passed."""
        known = self.schedules.get(name)
        if known is not None and said.has_timing_of(known.said):
            return False
        anchor = known.anchor if known is not None and known.said.every == said.every else self.clock
        return active and ModelSchedule(said, active, anchor).after(self.clock) is None

    # --- firing ---

    def due(self) -> list[tuple[str, str]]:
        return [
            name for name, one in self.schedules.items() if one.fire is not None and one.fire <= self.clock
        ]

    def shoot(self, name: tuple[str, str]) -> None:
        """One that is due fires."""
        one = self.schedules[name]
        assert one.fire is not None
        times = list(range(one.fire, self.clock + 1, one.said.every))
        if one.said.end is not None:
            times = [time for time in times if time <= one.said.end]
        last = times[-1]
        if one.said.catch_up == "all":
            times = times[-one.said.max_catch_up :]
        elif one.said.catch_up == "none" and last != self.clock:
            times = []
        else:
            times = [last]
        self._push_all(name, one, times)
        one.last_fire, one.fire = last, one.after(last)

    def _push_all(self, name: tuple[str, str], one: ModelSchedule, times: list[int]) -> None:
        waiting = self.waiting.setdefault(name[0], [])
        if one.said.overlap == "skip":
            if any(task.number == one.last_task for task in waiting):
                one.skipped += len(times)
                return
            if not self._has_room(name[0], min(1, len(times))):
                one.failures += 1
                return
            one.skipped += max(0, len(times) - 1)
            times = times[:1]
        elif not self._has_room(name[0], len(times)):
            one.failures += 1
            return
        for time in times:
            self._push(name, one, time)

    def by_hand(self, name: tuple[str, str]) -> bool:
        """Whether there was room."""
        one = self.schedules[name]
        if not self._has_room(name[0], 1):
            one.failures += 1
            return False
        self._push(name, one, self.clock)
        return True

    def _push(self, name: tuple[str, str], one: ModelSchedule, time: int) -> None:
        self.pushed += 1
        one.fired += 1
        one.last_task = self.pushed
        self.waiting.setdefault(name[0], []).append(Waiting(self.pushed, name[1], time))

    def _has_room(self, user: str, coming: int) -> bool:
        return user != self.limited or len(self.waiting.get(user, [])) + coming <= WAITING
