"""A logger that says each thing once: silent while a scope replays what it already did."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from .journal import Scope

LOGGER = logging.getLogger("perdure")


class ScopeLogger(logging.LoggerAdapter[logging.Logger]):
    """The logger of a context, writing to the logger `perdure`.

    Attributes:
        replay: True shows what is logged while replaying, too.
    """

    def __init__(self, scope: Scope, execution_id: str) -> None:
        super().__init__(LOGGER, {})
        self.replay = False
        self._scope = scope
        self._execution_id = execution_id

    def isEnabledFor(self, level: int) -> bool:
        """Return whether a message of this level is shown now."""
        if self._scope.replaying() and not self.replay:
            return False
        return self.logger.isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run and the scope to the record."""
        extra = dict(kwargs.get("extra") or {})
        extra |= {"execution_id": self._execution_id, "scope": self._scope.path}
        kwargs["extra"] = extra
        return msg, kwargs
