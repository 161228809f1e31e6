"""What an engine allows in size and number; settings, since the services behind them change theirs.

Two limits are no settings, but kept on each engine alike, so that a handler can move: names have 1
to 256 printable ASCII characters, durations are at most 366 days.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace

from .errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are in bytes of UTF-8 text.

    Attributes:
        payload: the largest result of an operation, and the largest payload sent to another
            function; more is `PayloadTooLargeError`.
        replay_children: a child scope or batch whose result is larger is recorded without it, and
            its function runs again over its recorded operations at replay. None: stored whole.
        execution: the largest result of a run. None: as large as `payload` allows.
        offloaded: the largest value kept outside of the engine, where there is a place for that.
            Then results over `payload` go there, and those of runs over `execution_inline`.
        execution_inline: see `offloaded`.
        error: characters of an error as JSON; its message and traceback are cut to that.
        operations: how many operations a run may have; a warning comes at nine tenths. None: any.
        stored: bytes of payloads a run may keep at the service; only warned of. None: any.
        updates: how many updates one call of a checkpoint carries.
        call: bytes of updates one call carries; a single larger update goes alone.
        invoke_timeout: whether an invoke of another function may have a timeout.
    """

    payload: int = 64 * 1024 * 1024
    replay_children: int | None = None
    execution: int | None = None
    offloaded: int | None = None
    execution_inline: int = 1_000_000
    error: int = 32_000
    operations: int | None = None
    stored: int | None = None
    updates: int = 250
    call: int = 750 * 1024
    invoke_timeout: bool = True

    @classmethod
    def aws(cls) -> Limits:
        """Return those of AWS Lambda durable functions: 256 KiB an operation, 6 MB a result."""
        return cls(
            payload=256 * 1024,
            replay_children=256 * 1024,
            execution=6 * 1024 * 1024,
            operations=3_000,
            stored=100_000_000,
            invoke_timeout=False,
        )

    def with_settings(self, text: str, where: str) -> Limits:
        """Return these limits, some of them replaced: a JSON object of their names.

        Raises:
            UsageError: it is no such object, naming what is wrong.
        """
        try:
            settings = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{where} is not JSON: {error}") from None
        if not isinstance(settings, dict):
            raise UsageError(f"{where} is a JSON object, not {type(settings).__name__}")
        for name, value in settings.items():
            self._check(name, value, where)
        return replace(self, **settings)

    def _check(self, name: str, value: object, where: str) -> None:
        kinds = {each.name: str(each.type) for each in fields(self)}
        if name not in kinds:
            raise UsageError(f"{where}: {name!r} is no limit; there are {', '.join(kinds)}")
        if value is None and "None" in kinds[name]:
            return
        if kinds[name] == "bool":
            if not isinstance(value, bool):
                raise UsageError(f"{where}: {name} is true or false, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{where}: {name} is a whole number from 1, not {value!r}")
