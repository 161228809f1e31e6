"""`synthesize`: findings written up as one report, in which every `[n]` is a source that exists.

The sources of all findings get one numbering before the model sees any of them. A citation of
nothing is sent back to be mended, by a new recorded call; what is still wrong then is marked `[?]`
and listed. Sentences that claim something and cite nothing are listed, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from perdure.durable.errors import PerdureError, UsageError
from perdure.durable.gated import AnyContext, drive, opened, run_of, value_of

from .citations import cited, marked, unsupported
from .errors import OutputInvalid
from .findings import Failure, Finding, Findings
from .messages import estimated_tokens, plain_messages, text_of
from .model_calls import llm
from .report_material import (
    BYTES_A_TOKEN,
    Material,
    Note,
    condensed,
    gathered,
    grouped,
    size_of,
    truncated,
)
from .scoped import inputs_for, lines, prompt_of
from .sources import SourceRef

if TYPE_CHECKING:
    from perdure.durable.calls import Retry
    from perdure.prompts import Prompt, Rendered

    from .budgets import Budget
    from .streams import OnText

Overflow = Literal["map_reduce", "truncate", "error"]
_OURS = ("sources", "cited", "unsupported", "problems", "failures")
_TITLE = re.compile(r"\A\s*#\s+(.+?)\s*#*\s*(?:\n|\Z)")
_CONDENSING_AT_ONCE = 5
_MOST_ROUNDS = 5
_LEAST_WORDS = 60
_BYTES_A_WORD = 8


class InputTooLarge(PerdureError):
    """The findings are larger than `max_input_tokens`, and may not or cannot be shortened."""


class Report(BaseModel):
    """A report in Markdown, each of its statements with the number of its source.

    Attributes:
        sources: all sources, in the order of their numbers.
        cited: the numbers that the text cites.
        unsupported: sentences that claim something (a figure, a date, a name) and cite nothing.
        problems: what is wrong with the citations or was cut, in words.
        failures: the tasks that came to nothing.
    """

    model_config = ConfigDict(frozen=True)

    title: str = Field(default="", description="The title of the report, in a few words")
    text: str = Field(
        min_length=1,
        description="The report in Markdown, without its title; each statement is followed by the "
        "number of its source, as in [3]",
    )
    sources: SkipJsonSchema[list[SourceRef]] = []
    cited: SkipJsonSchema[list[int]] = []
    unsupported: SkipJsonSchema[list[str]] = []
    problems: SkipJsonSchema[list[str]] = []
    failures: SkipJsonSchema[list[Failure]] = []

    def markdown(self, findings: Findings | None = None) -> str:
        """Return the report with its title, its sources, and what is missing or open to doubt.

        Args:
            findings: those that it was written from, to be shown after it, cited by its numbers.
        """
        notes = [] if findings is None else gathered(findings.findings).notes
        cited_ids = {*self.cited, *(each for note in notes for each in cited(note.text))}
        used = [_source_line(ref) for ref in self.sources if ref.id in cited_ids]
        unused = [_source_line(ref) for ref in self.sources if ref.id not in cited_ids]
        failed = [f"- {each.question}: {_one_line(each.message)}" for each in self.failures]
        parts = [f"# {_one_line(self.title)}" if self.title else "", self.text.strip()]
        if notes:
            parts += ["## What was found", *(_note_lines(note) for note in notes)]
        for heading, listed in (
            ("Sources", used),
            ("Read and not cited", unused),
            ("Not answered", failed),
            ("Stated without a source", [f"- {each}" for each in self.unsupported]),
            ("Problems", [f"- {each}" for each in self.problems]),
        ):
            if listed:
                parts.append("\n".join([f"## {heading}", "", *listed]))
        return "\n\n".join(part for part in parts if part) + "\n"


def synthesize(
    context: AnyContext,
    findings: Findings | Iterable[Finding],
    *,
    name: str = "synthesize",
    goal: str | None = None,
    model: Any = None,
    schema: type[Report] | None = None,
    hints: str | Sequence[str] | None = None,
    prompt: Any = None,
    max_input_tokens: int = 100_000,
    overflow: Overflow = "map_reduce",
    budget: Budget | Sequence[Budget] | None = None,
    retry: Retry = None,
    fallbacks: Sequence[Any] = (),
    repairs: int = 2,
    max_tokens: int | None = None,
    stream: OnText | bool | None = None,
) -> Any:
    """Write findings up as a report, in a scope of its own.

    Args:
        findings: what `research` returned, or a list of findings.
        goal: what the report answers; that of the findings' plan if not given.
        model: as of `llm`, and so are `budget`, `retry`, `fallbacks`, `max_tokens` and `stream`.
        schema: a subclass of `Report`, whose further fields the model fills, too; by default it
            answers in plain Markdown.
        hints: what else the writer should know, such as the remarks of a reviewer.
        prompt: a `Prompt`, or the path of one, in place of the built-in; it gets those of `goal`,
            `questions`, `findings`, `ids`, `sources`, `unanswered` and `hints` that it declares.
        max_input_tokens: how large the prompt may be, by estimate: a token for three bytes.
        overflow: of findings that are larger, "map_reduce" has parts of them shortened first, each
            by a recorded call; "truncate" cuts the sources, then the findings, and says so;
            "error" refuses.
        repairs: how often wrong citations are sent back, and an answer that does not fit `schema`.

    Returns:
        the report; in an async handler an awaitable of it.

    Raises:
        InputTooLarge: as `overflow` says, or where shortening does not help.
        ChildError: a call failed for good, or no answer came to fit.
        UsageError: an argument cannot be meant.
    """
    what = f"synthesize {name!r}"
    given = (
        findings if isinstance(findings, Findings) else Findings(findings=_listed(findings, what))
    )
    if not given.findings:
        raise UsageError(f"{what}: there are no findings to write from")
    if schema is not None and not (isinstance(schema, type) and issubclass(schema, Report)):
        raise UsageError(f"{what}: schema is a subclass of Report, not {schema!r}")
    if overflow not in ("map_reduce", "truncate", "error"):
        raise UsageError(
            f"{what}: overflow is 'map_reduce', 'truncate' or 'error', not {overflow!r}"
        )
    if isinstance(max_input_tokens, bool) or not isinstance(max_input_tokens, int):
        raise UsageError(f"{what}: max_input_tokens is a whole number, not {max_input_tokens!r}")
    run_of(context).codec.check_class(schema or Report, where=f"{what}: schema")
    asking = {
        "model": model,
        "budget": budget,
        "retry": retry,
        "fallbacks": tuple(fallbacks),
        "repairs": repairs,
        "max_tokens": max_tokens,
    }
    writing = _Writing(
        prompt_of(prompt, "synthesize"),
        (given.goal if goal is None else goal).strip(),
        lines(hints),
        tuple(given.failures),
        schema,
        max_input_tokens,
        overflow,
        repairs,
        asking,
        stream,
    )

    async def body(scope: AnyContext) -> Report:
        material = await writing.fitted(scope, gathered(given.findings))
        return await writing.report(scope, material)

    return opened(context, name, body, InputTooLarge)


@dataclass(frozen=True, slots=True)
class _Writing:
    """A report as it was asked for."""

    prompt: Prompt
    goal: str
    hints: str
    failures: tuple[Failure, ...]
    schema: type[Report] | None
    max_input: int
    overflow: Overflow
    repairs: int
    asking: dict[str, Any]
    stream: OnText | bool | None

    async def fitted(self, scope: AnyContext, material: Material) -> Material:
        """Return the material in a size that the prompt has room for."""
        if self._tokens(scope, material) <= self.max_input:
            return material
        if self.overflow == "map_reduce":
            return await self._condensed(scope, material)
        room = self._room(self._tokens(scope, material.bare))
        cut = truncated(material, room) if self.overflow == "truncate" and room > 0 else None
        if cut is None:
            raise self._too_large(self._tokens(scope, material))
        return cut

    async def report(self, scope: AnyContext, material: Material) -> Report:
        """Return the report that the model writes, its citations checked."""
        known = [ref.id for ref in material.refs]
        opening = self._rendered(scope, material)
        reply = await self._ask(scope, "write", opening)
        replies = [reply]
        for _ in range(self.repairs):
            said = self._complaint(reply, known)
            if said is None:
                break
            answer = reply.text
            if self.schema is not None:
                answer = reply.output.model_dump_json(exclude=set(_OURS))
            reply = await self._ask(scope, "correct", _continued(opening, answer, said))
            replies.append(reply)
        written = self._answer(reply)
        if not written["text"].strip():
            raise OutputInvalid("the model wrote no report", replies, "there is no text")
        return self._checked(written, material)

    async def _condensed(self, scope: AnyContext, material: Material) -> Material:
        """Have parts of the material shortened until all of it has room."""
        for _ in range(_MOST_ROUNDS):
            before = size_of(material)
            material = await self._shorter(scope, material)
            if self._tokens(scope, material) <= self.max_input:
                return material
            if size_of(material) >= before:
                break
        raise self._too_large(self._tokens(scope, material))

    async def _shorter(self, scope: AnyContext, material: Material) -> Material:
        """Return the material with its parts shortened, each by a recorded call."""
        template = prompt_of(None, "condense")
        given: dict[str, Any] = {"goal": self.goal, "words": 1}
        frame = template.render({**given, **Material((), {}).inputs})
        groups = grouped(material, self._room(_tokens_of(frame)))
        left = self._room(self._tokens(scope, condensed(material, [])))
        given["words"] = max(_LEAST_WORDS, left // len(groups) // _BYTES_A_WORD)

        async def shorten(inner: AnyContext, group: Material) -> str:
            inputs = {**given, **group.inputs}
            reply = await value_of(llm(inner, "shorten", template, inputs=inputs, **self.asking))
            return str(reply.text)

        texts = await value_of(
            scope.map(
                "condense",
                groups,
                lambda inner, group: drive(inner, shorten(inner, group)),
                max_concurrency=_CONDENSING_AT_ONCE,
            )
        )
        known = [ref.id for ref in material.refs]
        return condensed(material, [marked(text, known) for text in texts])

    async def _ask(self, scope: AnyContext, name: str, prompt: Rendered) -> Any:
        return await value_of(
            llm(scope, name, prompt, output=self.schema, stream=self.stream, **self.asking)
        )

    def _complaint(self, reply: Any, known: Sequence[int]) -> str | None:
        """Return what the model is told of an answer that cannot stay so."""
        answer = self._answer(reply)
        if not answer["text"].strip():
            return "There is no text in this answer. Give the whole report."
        wrong = [each for each in _cited(answer) if each not in known]
        if not wrong:
            return None
        listed = ", ".join(f"[{each}]" for each in wrong)
        exist = f"The sources are numbered 1 to {len(known)}" if known else "There are no sources"
        return (
            f"These citations name no source: {listed}. {exist}. Give the whole report again, each "
            "of them replaced by the number of the source that says so, or its statement left out."
        )

    def _answer(self, reply: Any) -> dict[str, Any]:
        """Return what the model wrote, field by field."""
        if self.schema is not None:
            return cast("dict[str, Any]", reply.output.model_dump(exclude=set(_OURS)))
        title = _TITLE.match(reply.text)
        text = reply.text[title.end() :] if title else reply.text
        return {"title": title[1] if title else _first_sentence(self.goal), "text": text.strip()}

    def _checked(self, answer: dict[str, Any], material: Material) -> Report:
        known = [ref.id for ref in material.refs]
        found = _cited(answer)
        problems = [
            f"[{each}] names no source; it is marked [?] in the text"
            for each in found
            if each not in known
        ]
        answer = _mapped(answer, lambda text: marked(text, known))
        values = {
            **answer,
            "sources": [ref.model_dump() for ref in material.refs],
            "cited": sorted(each for each in found if each in known),
            "unsupported": unsupported(answer["text"]),
            "problems": [*material.problems, *problems],
            "failures": [each.model_dump() for each in self.failures],
        }
        return (self.schema or Report).model_validate(values)

    def _rendered(self, scope: AnyContext, material: Material) -> Rendered:
        given = {
            **material.inputs,
            "goal": self.goal,
            "hints": self.hints,
            "unanswered": [each.question for each in self.failures],
        }
        return self.prompt.render(inputs_for(self.prompt, given), salt=scope.execution_id)

    def _tokens(self, scope: AnyContext, material: Material) -> int:
        return _tokens_of(self._rendered(scope, material))

    def _room(self, tokens: int) -> int:
        """Return how many bytes the prompt has left beside so many tokens."""
        return max(0, self.max_input - tokens) * BYTES_A_TOKEN

    def _too_large(self, tokens: int) -> InputTooLarge:
        how = "" if self.overflow == "error" else f", also after overflow={self.overflow!r}"
        return InputTooLarge(
            f"the prompt has about {tokens:,} tokens{how}, and max_input_tokens is "
            f"{self.max_input:,}; raise it, or give fewer findings"
        )


def _continued(opening: Rendered, answer: str, said: str) -> Rendered:
    from perdure.prompts import Message

    turn = (Message("assistant", answer or "(nothing)"), Message("user", said))
    return replace(opening, messages=(*opening.messages, *turn))


def _tokens_of(rendered: Rendered) -> int:
    return estimated_tokens(text_of(plain_messages(rendered, None, "")), ())


def _cited(answer: Mapping[str, Any]) -> list[int]:
    """Return the numbers that any text of an answer cites."""
    found: list[int] = []

    def read(text: str) -> str:
        found.extend(cited(text))
        return text

    _mapped(answer, read)
    return list(dict.fromkeys(found))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain data with each text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    return value


def _listed(findings: Any, what: str) -> list[Finding]:
    listed = list(findings) if isinstance(findings, Iterable) else [findings]
    for each in listed:
        if not isinstance(each, Finding):
            kind = type(each).__name__
            raise UsageError(f"{what} takes Findings, or a list of Finding, not {kind}")
    return listed


def _note_lines(note: Note) -> str:
    return f"### {_one_line(note.question)}\n\n{note.text.strip()}" if note.question else note.text


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0]


def _source_line(ref: SourceRef) -> str:
    place = "" if ref.location == ref.title else ref.location
    places = ", ".join(_one_line(each) for each in (place, *ref.also) if each)
    return f"- [{ref.id}] {_one_line(ref.title)}{f' ({places})' if places else ''}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
