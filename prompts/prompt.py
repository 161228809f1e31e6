"""Prompts as files: typed inputs in, messages out, and a version that names their content.

Loading reads the files and knows the version; the rest is parsed and checked at the first need,
once, whichever thread comes first. A prompt never changes after it was loaded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import Findings, PromptError
from .source import Source, path_of, read_source, source_of

if TYPE_CHECKING:
    from jinja2 import Template

    from .front import Front
    from .inputs import InputField
    from .sections import Role
    from .template import Environment


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation: who says it, and what."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt with its inputs filled in, and the settings it asks for."""

    messages: tuple[Message, ...]
    name: str
    version: str
    config: dict[str, Any]
    model: str | None
    output: dict[str, Any] | None


class Prompt:
    r"""A prompt template with declared inputs and role sections.

    Such a file is front matter in YAML between two lines `---`, and a body in Jinja2::

        ---
        description: Say what a document is about
        config: {max_tokens: 300}
        input:
          schema:
            language: string, of the answer
            document: untrusted, the text
        ---
        system:
        You summarise documents, in {{ language }}.
        user:
        {{ document | untrusted("d1") }}

    A prompt without front matter has no inputs. The modules `front`, `inputs`, `sections` and
    `fencing` tell what front matter, types of inputs, role lines and the filter `untrusted` are.
    """

    __slots__ = ("_lock", "_parsed", "_source")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._parsed: _Parsed | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None
    ) -> Prompt:
        """Return the prompt in a file.

        Args:
            path: the file, UTF-8.
            root: the folder that includes are named from and never leave; the file's own folder
                if not given.

        Raises:
            PromptError: the file or one that it includes is missing or cannot be read.
        """
        return cls(read_source(path_of(path), None if root is None else path_of(root)))

    @classmethod
    def from_string(
        cls, text: str, *, name: str = "inline", includes: Mapping[str, str] | None = None
    ) -> Prompt:
        """Return the prompt in a text; `includes` holds the texts it may include, by name.

        Raises:
            PromptError: an include is missing, or an argument is not what it should be.
        """
        return cls(source_of(name, text, {} if includes is None else includes))

    @property
    def name(self) -> str:
        """The name in the front matter, else the file's name without its ending."""
        return self._source.name

    @property
    def version(self) -> str:
        """The SHA-256 of the file and of what it includes, in hex; of the file alone if nothing."""
        return self._source.version

    @property
    def description(self) -> str:
        """One line for a reader; empty if the front matter has none."""
        return self._ready().front.description

    @property
    def model(self) -> str | None:
        """The model, or the role of one, that the prompt asks for."""
        return self._ready().front.model

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the call, such as `max_tokens`; a copy."""
        return deepcopy(self._ready().front.config)

    @property
    def inputs(self) -> Mapping[str, InputField]:
        """The declared inputs by name, in the order of the file."""
        return MappingProxyType(self._ready().front.inputs)

    @property
    def output(self) -> dict[str, Any] | None:
        """The JSON Schema of the answer, if the prompt asks for one; a copy."""
        return deepcopy(self._ready().front.output)

    @property
    def metadata(self) -> dict[str, Any]:
        """What else the front matter says under `metadata`; a copy."""
        return deepcopy(self._ready().front.metadata)

    def check(self) -> None:
        """Parse and check the whole prompt, as the first rendering does.

        Raises:
            PromptError: a rule is broken; `.problems` has all that was found.
        """
        self._ready()

    def render(
        self, inputs: Mapping[str, Any] | None = None, /, *, salt: str = "", **more: Any
    ) -> Rendered:
        """Return the messages for these inputs, given as a mapping, as keywords, or as both.

        Sections that come out empty are left out; the others lose the white space at their ends.
        Equal inputs and salt give equal messages.

        Args:
            inputs: values by name; an input named `salt` can be given only here.
            salt: goes into the fences of untrusted texts; the run's id is a good one.
            more: further inputs.

        Raises:
            PromptError: the prompt breaks a rule, an input is missing, unknown or of another
                type, a template fails, or no message has any text.
        """
        from .inputs import Misfit, checked
        from .template import render

        parsed = self._ready()
        try:
            values = checked(parsed.front.inputs, _merged(inputs, more, salt))
        except Misfit as error:
            raise self._error(f"prompt {self.name!r}: {error}") from None
        texts = render(parsed.env, parsed.sections, values, salt)
        if not texts:
            raise self._error(f"prompt {self.name!r}: with these inputs it has no message")
        return Rendered(
            messages=tuple(Message(role, text) for role, text in texts),
            name=self.name,
            version=self.version,
            config=self.config,
            model=self.model,
            output=self.output,
        )

    def __repr__(self) -> str:
        return f"<Prompt {self.name!r} {self.version[:12]}>"

    def _ready(self) -> _Parsed:
        parsed = self._parsed
        if parsed is None:
            with self._lock:
                parsed = self._parsed
                if parsed is None:
                    parsed = self._parsed = _parse(self._source)
        return parsed

    def _error(self, message: str) -> PromptError:
        return PromptError.at(self._source.place, None, message)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A prompt that broke no rule, ready to render."""

    front: Front
    env: Environment
    sections: tuple[tuple[Role, Template], ...]


def _parse(source: Source) -> _Parsed:
    from .front import read_front
    from .lint import lint
    from .sections import check_sections, sections_of
    from .template import Environment

    findings = Findings(source.place)
    front = read_front(source, findings)
    check_sections(source, findings)
    env = Environment(source)
    lint(source, front, env, findings)
    findings.raise_any()
    return _Parsed(front, env, tuple(env.compiled(sections_of(source))))


def _merged(inputs: object, more: Mapping[str, Any], salt: object) -> dict[str, Any]:
    from .inputs import Misfit

    if not isinstance(salt, str):
        raise Misfit(f"the salt is a str, not {type(salt).__name__}")
    if inputs is None:
        return dict(more)
    if not isinstance(inputs, Mapping):
        raise Misfit(f"the inputs are a mapping, not {type(inputs).__name__}")
    for name in more:
        if name in inputs:
            raise Misfit(f"input {name!r} is given twice")
    return {**inputs, **more}
