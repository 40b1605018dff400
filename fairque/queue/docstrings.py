"""One text for a method of both faces, so that they cannot drift apart."""

from __future__ import annotations


def take_docstrings(own: type, twin: type) -> None:
    """Give each public method of `own` the docstring of its twin's."""
    for name, method in vars(own).items():
        if not name.startswith("_") and callable(method) and hasattr(twin, name):
            method.__doc__ = getattr(twin, name).__doc__
