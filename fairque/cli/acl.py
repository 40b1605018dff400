"""`fairque acl`: the least privilege."""

from __future__ import annotations

from typing import Annotated

import typer

from fairque.cli.options import ConfigOption, QueueOption, UrlOption, configuration
from fairque.core.exceptions import ConfigurationError


def acl(
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="The user to make.")] = "fairque",
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
) -> None:
    """Print the command that makes a user of the server who may do what a queue needs, and nothing else.

    It covers producers, workers and the commands that look, and the keys of this one queue. Put a password in
    its place; keep the user with ACL SAVE or CONFIG REWRITE. After an upgrade of FairQueue make it anew.

    Example: fairque acl --user billing --queue mail
    """
    from fairque.queue.acl import acl_rule  # noqa: PLC0415 - --help and --version stay fast

    if not user.isprintable() or not user or any(sign.isspace() for sign in user):
        raise ConfigurationError(f"--user {user!r}: a user of the server has a name without spaces")
    typer.echo(acl_rule(configuration(config, url, queue), user))
