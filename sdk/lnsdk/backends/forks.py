"""Engines in forked processes: a fork copies no threads, without which running or deleting an engine never ends."""

import os
from typing import Any, Protocol
from weakref import WeakSet


class Threaded(Protocol):
    """A session whose engine has threads."""

    def abandon(self) -> object:
        """Give the engine away, without deleting it, and load another when it is needed."""


_sessions: "WeakSet[Any]" = WeakSet()
_lost: list[object] = []


def abandon_in_children(session: Threaded) -> None:
    """Let a session load its engine anew in every process that is forked from this one."""
    _sessions.add(session)


def _abandon_all() -> None:
    _lost.extend(session.abandon() for session in list(_sessions))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
