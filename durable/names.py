"""Names and ids: an operation is known by its scope, its name and how often that name was claimed.

An id is two digests, scope and operation, so an operation's scope can be read off its id even
where its branch has no operation of its own (`nesting="flat"`). Position does not enter it.
"""

from __future__ import annotations

from hashlib import blake2b

from .errors import UsageError

ROOT = blake2b(b"perdure", digest_size=10).hexdigest()
RESERVED = "perdure:"
_checked: set[str] = set()


def check_name(name: object, what: str) -> str:
    """Return the name if an operation may carry it: 1 to 256 printable ASCII characters.

    Raises:
        UsageError: naming what is wrong with it.
    """
    if not isinstance(name, str):
        raise UsageError(f"the name of a {what} is a str, not {type(name).__name__}")
    if name in _checked:
        return name
    if not 1 <= len(name) <= 256:
        raise UsageError(f"the name of a {what} has 1 to 256 characters, not {len(name)}")
    if not (name.isascii() and name.isprintable()):
        odd = next(c for c in name if not (c.isascii() and c.isprintable()))
        raise UsageError(
            f"the name of a {what} is printable ASCII (the rule of AWS, so that a handler can "
            f"move); {name!r} holds {odd!r}"
        )
    if name.startswith(RESERVED):
        raise UsageError(f"names that start with {RESERVED!r} are reserved: {name!r}")
    if len(_checked) < 10_000:
        _checked.add(name)
    return name


def operation_id(scope: str, name: str, count: int) -> str:
    """Return the id of the operation that claims `name` in `scope` for the `count`-th time."""
    key = f"{name}\0{count}" if count else name
    return f"{scope}-{blake2b(key.encode(), digest_size=10).hexdigest()}"


def scope_of(operation: str) -> str:
    """Return the digest of the scope that an operation was claimed in."""
    return operation[:20]


def child_scope(operation: str) -> str:
    """Return the digest of the scope that a CONTEXT operation opens."""
    return blake2b(operation.encode(), digest_size=10).hexdigest()


def branch_scope(batch: str, key: str) -> str:
    """Return the digest of the scope of a flat branch, which has no operation of its own."""
    return blake2b(f"{batch}\0{key}".encode(), digest_size=10).hexdigest()
