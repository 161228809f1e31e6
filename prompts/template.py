"""The Jinja2 side of a prompt: what a template can do, and how one section becomes a text.

Templates are an author's files, sandboxed all the same: they see plain data, change nothing, ask
no clock and draw no lots. The sandbox does not limit memory; what a template prints is bounded,
and so are the products and sums that could fill the memory first.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

from jinja2 import (
    FunctionLoader,
    StrictUndefined,
    Template,
    Undefined,
    UndefinedError,
    pass_context,
)
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import htmlsafe_json_dumps

from .errors import PromptError
from .fencing import MAX_CHARS, fence
from .sections import Role, Section
from .source import Source

MAX_RENDERED = 10_000_000
_MAX_BITS = 100_000
_SCALARS = (str, int, float, date, time, timedelta, Decimal, UUID, PurePath)
_PRINTED = (*_SCALARS, list, dict, Undefined)

# no template can name these: a name has no colon
_ROLE, _SALT, _FENCES = "perdure:role", "perdure:salt", "perdure:fences"


class Misuse(Exception):
    """A template did what it may not; the text says what, and the caller knows where."""


class Environment(ImmutableSandboxedEnvironment):
    """What the sections and includes of one prompt are compiled and rendered in."""

    intercepted_binops = frozenset(("*", "**", "+"))

    def __init__(self, source: Source) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            finalize=_printable,
            auto_reload=False,
            loader=FunctionLoader(self._load),
        )
        self._source = source
        self._sections: dict[str, str] = {}
        for name in ("lipsum", "cycler", "joiner"):
            del self.globals[name]
        del self.filters["random"]
        self.filters["untrusted"] = _untrusted
        self.filters["tojson"] = _tojson

    @property
    def places(self) -> frozenset[str]:
        """The files that this prompt is made of, as errors name them."""
        return frozenset((self._source.place, *(p.place for p in self._source.parts.values())))

    def compiled(self, sections: Sequence[Section]) -> list[tuple[Role, Template]]:
        """Return the sections as templates, and have the includes ready.

        Raises:
            PromptError: Python cannot compile what Jinja2 makes of one, being nested too deep.
        """
        named = {f"perdure:section {n}": section for n, section in enumerate(sections)}
        self._sections = {name: section.text for name, section in named.items()}
        for name, part in self._source.parts.items():
            self._ready(name, part.place)
        return [(each.role, self._ready(name, self._source.place)) for name, each in named.items()]

    def _ready(self, name: str, place: str) -> Template:
        try:
            return self.get_template(name)
        except Exception as error:
            said = error.msg if isinstance(error, SyntaxError) else str(error)
            message = f"it cannot be compiled: {type(error).__name__}: {said}"
            raise PromptError.at(place, None, message) from None

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would be too large to hold, then do as Python does."""
        if operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
            _bounded(len(left) + len(right))
        elif operator == "*":
            _bounded(_length(left, right), _length(right, left))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _bounded(bits=left.bit_length() * right)
        return super().call_binop(context, operator, left, right)

    def _load(self, name: str) -> tuple[str, str, None] | None:
        if name in self._sections:
            return self._sections[name], self._source.place, None
        part = self._source.parts.get(name)
        return None if part is None else (part.text, part.place, None)


def render(
    env: Environment,
    sections: Iterable[tuple[Role, Template]],
    values: Mapping[str, Any],
    salt: str,
) -> list[tuple[Role, str]]:
    """Return the role and text of each section that comes out with any text.

    Raises:
        PromptError: a template failed, at which file and line.
    """
    room = MAX_RENDERED
    texts: list[tuple[Role, str]] = []
    for role, template in sections:
        fences: list[str] = []
        hidden = {_ROLE: role, _SALT: salt, _FENCES: fences}
        try:
            text = _bounded_text(template, {**values, **hidden}, room)
            _check_text(text, fences)
        except Exception as error:
            raise _placed(error, env, template) from None
        room -= len(text)
        if stripped := text.strip():
            texts.append((role, stripped))
    return texts


def _bounded_text(template: Template, values: Mapping[str, Any], room: int) -> str:
    chunks: list[str] = []
    for chunk in template.generate(values):
        chunks.append(chunk)
        room -= len(chunk)
        if room < 0:
            raise Misuse(f"the prompt comes out longer than {MAX_RENDERED:,} characters")
    return "".join(chunks)


def _check_text(text: str, fences: list[str]) -> None:
    if any(each not in text for each in fences):
        raise Misuse("a fenced text was changed or dropped; print it as {{ value | untrusted }}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misuse("it comes out with half of a surrogate pair, which is no text") from None


def _placed(error: Exception, env: Environment, template: Template) -> PromptError:
    """Return an error of a template with the file and line that it was raised at."""
    if isinstance(error, PromptError):
        message = error.problems[0].message
    elif isinstance(error, Misuse | UndefinedError):
        message = str(error)
    else:
        message = f"{type(error).__name__}: {error}"
    places = env.places
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code.co_filename in places:
            return PromptError.at(frame.f_code.co_filename, line, message)
    return PromptError.at(template.filename or "inline", None, message)


@pass_context
def _untrusted(context: Context, text: object, id: Any = None, max_chars: Any = MAX_CHARS) -> str:
    if context.get(_ROLE) != "user":
        raise Misuse("the filter untrusted is for user sections only")
    for value in (text, id):
        if isinstance(value, Undefined):
            str(value)  # raises, naming what is undefined
    if not isinstance(text, str):
        raise Misuse(f"the filter untrusted takes a text, not {type(text).__name__}")
    fenced = fence(text, id, salt=context[_SALT], max_chars=max_chars)
    context[_FENCES].append(fenced)
    return fenced


def _tojson(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON in ASCII without `<`, `>`, `&` and `'`, keys in order."""
    return str(htmlsafe_json_dumps(value, sort_keys=True, indent=indent))


def _printable(value: Any) -> Any:
    """Let only values through that print the same at each replay, and mean something."""
    if isinstance(value, _PRINTED):
        return value
    if value is None:
        raise Misuse("it prints None; use {% if … %}, or {{ … or '' }}")
    raise Misuse(
        f"it prints a Python object ({type(value).__name__}); "
        "call a method with (), give a filter's list to | list or | join"
    )


def _length(sequence: object, times: object) -> int:
    if isinstance(sequence, str | list | tuple) and isinstance(times, int):
        return len(sequence) * times
    return 0


def _bounded(*lengths: int, bits: int = 0) -> None:
    if max((*lengths, 0)) > MAX_RENDERED or bits > _MAX_BITS:
        raise Misuse("it computes a value too large for a prompt")
