"""Finds the handlers a user names: in `FILE`, `FILE:handler` or `package.module:handler`.

A file is loaded once, as a module named like the file without its suffix, and stays in
`sys.modules`, so that its classes are found again by that name in every process. Its folder is
added to `sys.path`, so that it may import its neighbours. What the user's own code raises while it
is loaded becomes a `LoadError` that carries the user's lines of the traceback and none of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from perdure.durable.errors import UsageError
from perdure.durable.handler import Handler

from .traces import raised_lines

T = TypeVar("T")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class LoadError(UsageError):
    """The user's own code raised while it was loaded.

    Attributes:
        lines: the user's lines of the traceback.
    """

    def __init__(self, message: str, lines: list[str]) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a module holds.

    Attributes:
        where: what the user gave, without the handler.
        handlers: all of its handlers by attribute; those it only imports come last.
        own: how many of them it defines itself.
    """

    where: str
    handlers: dict[str, Handler[Any]]
    own: int

    def pick(self, name: str = "") -> Handler[Any]:
        """Return the handler of this name, the only one, or the one called `handler`.

        Raises:
            UsageError: there is none, or no way to choose.
        """
        if name:
            return self._named(name)
        if "handler" in self.handlers:
            return self.handlers["handler"]
        candidates = list(self.handlers.values())[: self.own or None]
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise UsageError(
                f"{self.where} holds no handler: decorate a function (event, context) with "
                "@durable_execution"
            )
        first = next(iter(self.handlers))
        raise UsageError(
            f"{self.where} holds several handlers: {self._known()}; choose one, like "
            f"{self.where}:{first}"
        )

    def _named(self, name: str) -> Handler[Any]:
        if name in self.handlers:
            return self.handlers[name]
        for handler in self.handlers.values():
            if handler.name == name:
                return handler
        raise UsageError(f"{self.where} has no handler {name!r}; it has {self._known()}")

    def _known(self) -> str:
        return ", ".join(self.handlers) or "none"


def load(target: str) -> tuple[Loaded, str]:
    """Load what a user named; return it, and the name after the colon, if one.

    Raises:
        UsageError: there is no such file or module.
        LoadError: it raised while it was loaded.
    """
    where, name = _split(target)
    path = Path(where)
    if path.is_file():
        return _loaded(where, _load_file(path)), name
    if path.suffix == ".py" or "/" in where or path.is_dir():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{where} {what}; name a Python file with a handler, like flow.py")
    if not _MODULE.fullmatch(where):
        raise UsageError(f"there is no file {where!r}, and it cannot be the name of a module")
    return _loaded(where, _load_module(where)), name


def load_source(source: str, name: str) -> Loaded:
    """Load the file that a run of the handler `name` was recorded with.

    A handler that came from a package is imported from it again.
    """
    path = Path(source)
    module = name.rpartition(".")[0]
    tail = Path(*module.split(".")).with_suffix(".py") if "." in module else None
    if tail is not None and path.parts[-len(tail.parts) :] == tail.parts:
        _add_to_path(path.parents[len(tail.parts) - 1])
        return _loaded(source, _load_module(module))
    return _loaded(source, _load_file(path))


def _split(target: str) -> tuple[str, str]:
    if Path(target).is_file():
        return target, ""
    where, colon, name = target.rpartition(":")
    return (where, name) if colon else (target, "")


def _loaded(where: str, module: ModuleType) -> Loaded:
    found: dict[int, tuple[str, Handler[Any]]] = {}
    for attribute, value in vars(module).items():
        if isinstance(value, Handler):
            found.setdefault(id(value), (attribute, value))
    own = [each for each in found.values() if each[1].__module__ == module.__name__]
    imported = [each for each in found.values() if each[1].__module__ != module.__name__]
    return Loaded(where, dict(own + imported), len(own))


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    if path.suffix != ".py":
        raise UsageError(f"{path} is not a Python file (.py)")
    stem = path.stem
    known = sys.modules.get(stem)
    if known is not None and _file_of(known) == path:
        return known
    if known is not None or stem in sys.stdlib_module_names:
        raise UsageError(
            f"{path} would be loaded as the module {stem!r}, and another module has that name; "
            "rename the file"
        )
    _add_to_path(path.parent)
    spec = importlib.util.spec_from_file_location(stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    try:
        _guarded(str(path), lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    except BaseException:
        sys.modules.pop(stem, None)
        raise
    return module


def _load_module(name: str) -> ModuleType:
    _add_to_path(Path.cwd())
    try:
        return _guarded(name, lambda: importlib.import_module(name))
    except LoadError as error:
        cause = error.__cause__
        absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if absent is not None and f"{name}.".startswith(f"{absent}."):
            raise UsageError(f"there is no file or module {name!r}") from None
        raise


def _guarded(where: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _refuse(where, error)


def _refuse(where: str, error: BaseException) -> NoReturn:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    raise LoadError(f"{where} could not be loaded: {what}", raised_lines(error)) from error


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
