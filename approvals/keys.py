"""The keys that sign links and buttons: from the environment, or made once beside the journal.

`PERDURE_APPROVAL_KEYS` holds them separated by commas, the newest last: it signs, all verify. A key
has to outlive the longest open deadline.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from perdure.durable.errors import UsageError

VARIABLE = "PERDURE_APPROVAL_KEYS"
FILE = "approval.key"
_LEAST = 32


class Keys:
    """Signing keys, oldest first; never shown."""

    __slots__ = ("_keys",)

    def __init__(self, *keys: str) -> None:
        if not keys:
            raise UsageError(f"{VARIABLE} has no key; give one of at least {_LEAST} bytes")
        for number, key in enumerate(keys, 1):
            if len(key.encode()) < _LEAST:
                raise UsageError(
                    f"key {number} of {VARIABLE} has {len(key.encode())} bytes, and needs at least "
                    f"{_LEAST}; make one with: python -c 'import secrets; "
                    "print(secrets.token_urlsafe(48))'"
                )
        self._keys = keys

    def __repr__(self) -> str:
        return f"<{len(self._keys)} keys>"

    def __reduce__(self) -> str:
        raise TypeError("keys are not kept")

    def reveal(self) -> list[str]:
        """Return the keys, for the signer alone."""
        return list(self._keys)


def keys_for(home: Path | None) -> Keys:
    """Return the keys of this process: of the environment, else those beside the journal.

    Args:
        home: the folder of the journal, where a key is made if there is none; None on AWS.

    Raises:
        UsageError: there is none and none can be made, or one is too short.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return Keys(*(key.strip() for key in given.split(",") if key.strip()))
    if home is None:
        raise UsageError(
            f"set {VARIABLE} to one or more keys of at least {_LEAST} bytes, separated by commas, "
            "newest last: there is no journal folder here to keep one in"
        )
    return Keys(_kept(home / FILE))


def _kept(path: Path) -> str:
    """Return the key of a file, made if it does not exist; two processes make one."""
    made = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    if not path.exists():
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    try:
        if path.stat().st_mode & 0o077:
            raise UsageError(f"{path} can be read by others; chmod 600 it, or make another key")
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the key {path} cannot be read: {type(error).__name__}") from None
    if len(key.encode()) < _LEAST:
        raise UsageError(f"the key in {path} is damaged (too short); restore it or delete the file")
    return key
