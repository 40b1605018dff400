"""Operations on users' policies, as values: set live, published from a configuration, and read."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fairque.core.calls import Call, Flow
from fairque.core.exceptions import TaskValidationError
from fairque.core.keys import DEFAULT, check_id, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fairque.core.user_policy import UserPolicy

T = TypeVar("T")

REFRESHED_AT_ONCE = 500  # users of one script
MOST_REPEATS = 100  # of a change that met another one


class Layers(msgspec.Struct, frozen=True):
    """A user's policy as the server keeps it: what an earlier layer sets, a later one may override."""

    default: dict[str, Any]
    configured: dict[str, Any]
    live: dict[str, Any]
    live_text: str
    paused: bool | None

    def policy(self) -> UserPolicy:
        """What counts."""
        from fairque.core.user_policy import UserPolicy  # noqa: PLC0415 - pydantic loads when it is used

        switch = {} if self.paused is None else {"paused": self.paused}
        return UserPolicy.from_wire(self.default, self.configured, self.live, switch)


class PolicyCommands:
    """The operations on policies of one queue.

    Args:
        root: The shard's.
        configured: The policies of the configuration; None where it has none to publish.
    """

    def __init__(self, root: str, configured: Mapping[str, UserPolicy] | None) -> None:
        self._root = root
        self._configured = configured

    def _call(self, script: str, args: Iterable[Any], read: Callable[[Any], T]) -> Call[T]:
        return Call(script, self._root, tuple(args), read)

    @property
    def are_configured(self) -> bool:
        """Whether the configuration has policies to publish."""
        return self._configured is not None

    def set(self, user_id: str, policy: UserPolicy) -> Flow[None]:
        """Put a policy in place of the live one."""
        from fairque.core.user_policy import UserPolicy  # noqa: PLC0415 - pydantic loads when it is used

        if not isinstance(policy, UserPolicy):
            raise TaskValidationError(
                f"set_policy takes a UserPolicy, not {type(policy).__name__}: UserPolicy(weight=2.0)"
            )
        yield self._change(user_id, live=_text(policy.to_wire()))

    def update(self, user_id: str, changes: dict[str, Any]) -> Flow[UserPolicy]:
        """Change some fields of the live policy, and leave the others; the policy that counts then."""
        from fairque.core.user_policy import UserPolicy  # noqa: PLC0415 - pydantic loads when it is used

        check_id(user_id, "user_id")
        for _ in range(MOST_REPEATS):
            layers = yield self.layers(user_id)
            now = UserPolicy.from_wire(layers.default, layers.configured, layers.live)
            given = UserPolicy.from_wire(layers.live).model_dump(exclude_unset=True) | changes
            if given.get("burst") is not None and given.get("rate") is None:
                if "rate" in changes and "burst" not in changes:
                    given["burst"] = None  # it goes with the rate that is taken away
                elif "rate" not in changes and now.rate is not None:
                    given["rate"] = now.rate
            live = _text(UserPolicy(**given).to_wire())
            change = self._change(
                user_id, live=live, expected=layers.live_text, keep_switch="paused" not in changes
            )
            if (yield change):
                return (yield from self.get(user_id))
        raise TaskValidationError(f"the policy of user {user_id!r} is being changed all the time: try again")

    def get(self, user_id: str) -> Flow[UserPolicy]:
        """The policy that counts."""
        layers: Layers = yield self.layers(user_id)
        return layers.policy()

    def clear(self, user_id: str) -> Flow[None]:
        """Go back to what the configuration says."""
        yield self._change(user_id, clear=True)

    def pause_user(self, user_id: str, *, paused: bool) -> Flow[None]:
        """Pause a user, or let it go on."""
        yield self._change(user_id, paused=paused)

    def pause(self, *, paused: bool) -> Call[bool]:
        """Pause the whole queue, or let it go on."""
        return self._call("pause", (msgspec.json.encode({"paused": paused}),), bool)

    def layers(self, user_id: str) -> Call[Layers]:
        """All that is stored of a user's policy."""
        return self._call("get_policy", (b"{}", escape(check_id(user_id, "user_id"))), _read_layers)

    def _change(self, user_id: str, **options: Any) -> Call[bool]:
        name = escape(check_id(user_id, "user_id"))
        return self._call("set_policy", (msgspec.json.encode(options), name), bool)

    # --- the configuration's ---

    def publish(self) -> Flow[None]:
        """Put the configuration's policies on the server, in place of those published before."""
        default, args, digest = self._published
        options = msgspec.json.encode({"digest": digest, "default": default})
        if (yield self._call("configure", (options, *args), int)) == 2:  # noqa: PLR2004 - as configure.lua says
            yield from self._refresh(digest)

    def publish_if_lost(self) -> Flow[None]:
        """Publish again where nothing is published: the server has lost its data."""
        if self.are_configured:
            options = msgspec.json.encode({"digest": self._published[2], "ask": True})
            if (yield self._call("configure", (options,), bool)):
                yield from self.publish()

    @cached_property
    def _published(self) -> tuple[str, list[str], str]:
        """The default, the users' entries as arguments, and a digest of both."""
        policies = dict(self._configured or {})
        default = policies.pop(DEFAULT, None)
        text = _text({} if default is None else default.to_wire())
        args = [
            part
            for user, policy in sorted(policies.items())
            for part in (escape(user), _text(policy.to_wire()))
        ]
        return text, args, hashlib.sha256("\0".join([text, *args]).encode()).hexdigest()

    def _refresh(self, digest: str) -> Flow[None]:
        options = msgspec.json.encode({"limit": REFRESHED_AT_ONCE, "digest": digest})
        last = b""
        while True:
            last = yield self._call("refresh", (options, last), bytes)
            if not last:
                return


def _text(layer: dict[str, Any]) -> str:
    return msgspec.json.encode(layer, order="sorted").decode()


def _read_layers(reply: Any) -> Layers:
    default, configured, live, paused = reply
    return Layers(
        default=msgspec.json.decode(default or b"{}"),
        configured=msgspec.json.decode(configured or b"{}"),
        live=msgspec.json.decode(live or b"{}"),
        live_text=(live or b"{}").decode(),
        paused=None if paused is None else paused == b"1",
    )
