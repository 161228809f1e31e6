"""What is checked of a template before it is used: names, includes, and where untrusted text goes.

An untrusted value may be printed through the filter `untrusted` only, with nothing applied after
it, in user sections. It may decide (`{% if document %}`), be counted, and be looped over, which
makes the loop's variables untrusted too. Each rendering checks again that its fences came out
whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from jinja2 import TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables

from .errors import Findings
from .front import Front
from .sections import Role, sections_of
from .source import Source
from .template import Environment

FILTER = "untrusted"
_CAPTURES = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
_FOREIGN = (nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)
_COUNTS = ("length", "count")
_NEIGHBOURS = ("previtem", "nextitem")
_NONE: frozenset[str] = frozenset()


def lint(source: Source, front: Front, env: Environment, findings: Findings) -> None:
    """Note what breaks the rules in the sections and includes of a prompt."""
    trees = {
        name: _parsed(env, part.text, part.place, findings) for name, part in source.parts.items()
    }
    reader = _Reader(source, front, env, findings, trees)
    untrusted = frozenset(name for name, each in front.inputs.items() if each.type.is_untrusted)
    for section in sections_of(source):
        tree = _parsed(env, section.text, source.place, findings)
        reader.read(tree, _Seat(source.place, section.role, untrusted))
    reader.compare()


def _parsed(env: Environment, text: str, place: str, findings: Findings) -> nodes.Template | None:
    try:
        return env.parse(text)
    except TemplateSyntaxError as error:
        findings.add(error.lineno, _words(error), place)
    except RecursionError:
        findings.add(None, "its expressions are nested too deep", place)
    return None


@dataclass(frozen=True, slots=True)
class _Seat:
    """Where in the prompt a node stands, and which names are untrusted there."""

    place: str
    role: Role
    untrusted: frozenset[str]
    assigned: frozenset[str] = _NONE
    captured: bool = False
    above: tuple[str, ...] = ()

    def deciding(self) -> _Seat:
        """Return the same place for an expression that prints nothing of what it looks at."""
        return replace(self, untrusted=_NONE)


class _Reader:
    """Goes through the sections of a prompt, and each include where it is included."""

    def __init__(
        self,
        source: Source,
        front: Front,
        env: Environment,
        findings: Findings,
        trees: Mapping[str, nodes.Template | None],
    ) -> None:
        self._source = source
        self._front = front
        self._env = env
        self._findings = findings
        self._trees = trees
        self._used: dict[str, tuple[str, int | None]] = {}
        self._whole = True

    def read(self, tree: nodes.Template | None, seat: _Seat) -> None:
        """Check a section, or an include at one of its places; None is one that has no tree."""
        if tree is None:
            self._whole = False
            return
        try:
            self._note_names(tree, seat)
            stored = frozenset(name.name for name in _names(tree) if name.ctx != "load")
            self._visit(tree, replace(seat, assigned=seat.assigned | stored))
        except RecursionError:
            self._findings.add(None, "its expressions are nested too deep", seat.place)

    def compare(self) -> None:
        """Note the names that are used and not declared, and the other way round."""
        inputs = self._front.inputs
        for name, (place, line) in sorted(self._used.items()):
            if name not in inputs:
                close = get_close_matches(name, inputs, 1)
                cure = f"did you mean {close[0]!r}?" if close else "declare it in input.schema"
                self._findings.add(line, f"it uses {name!r}, which is no input; {cure}", place)
        for name in inputs if self._whole else ():
            if name not in self._used:
                line = self._front.lines.get(name)
                self._findings.add(line, f"input {name!r} is declared and never used")

    def _note(self, seat: _Seat, node: nodes.Node, message: str) -> None:
        self._findings.add(node.lineno, message, seat.place)

    def _note_names(self, tree: nodes.Template, seat: _Seat) -> None:
        try:
            names = find_undeclared_variables(tree) - seat.assigned
        except TemplateSyntaxError as error:
            self._whole = False
            if not _unknown_word(error):
                self._findings.add(error.lineno, _words(error), seat.place)
            return
        for name in names:
            lines = (each.lineno for each in _names(tree) if each.name == name)
            self._used.setdefault(name, (seat.place, next(lines, None)))

    def _visit(self, node: nodes.Node, seat: _Seat) -> None:
        match node:
            case nodes.Output():
                for child in node.nodes:
                    self._printed(child, seat)
            case nodes.If() | nodes.CondExpr():
                self._visit(node.test, seat.deciding())
                self._children(node, seat, but=("test",))
            case nodes.For():
                self._loop(node, seat)
            case nodes.Name():
                self._name(node, seat)
            case nodes.Filter():
                self._filter(node, seat)
            case nodes.Test():
                if node.name not in self._env.tests:
                    self._note(seat, node, f"there is no test {node.name!r}")
                self._children(node, seat)
            case nodes.Include():
                self._include(node, seat)
            case _ if isinstance(node, _FOREIGN):
                kind = type(node).__name__.lower()
                self._note(seat, node, f"a prompt has includes only, no {kind}")
            case _:
                if isinstance(node, nodes.Getattr) and node.attr in _NEIGHBOURS:
                    self._note(seat, node, f"a prompt has no loop.{node.attr}")
                captured = seat.captured or isinstance(node, _CAPTURES)
                self._children(node, replace(seat, captured=captured))

    def _children(self, node: nodes.Node, seat: _Seat, but: tuple[str, ...] = ()) -> None:
        for child in node.iter_child_nodes(exclude=but):
            self._visit(child, seat)

    def _printed(self, node: nodes.Node, seat: _Seat) -> None:
        """Check what stands between `{{` and `}}`: there alone a fence is printed as it is."""
        if isinstance(node, nodes.CondExpr):
            self._visit(node.test, seat.deciding())
            for branch in (node.expr1, node.expr2):
                if branch is not None:
                    self._printed(branch, seat)
        elif isinstance(node, nodes.Filter) and node.name == FILTER:
            if seat.role != "user":
                self._note(seat, node, f"untrusted text is for user sections, not {seat.role}")
            if seat.captured:
                self._note(seat, node, "untrusted text is printed outside macros and captures")
            self._children(node, seat.deciding())
        else:
            self._visit(node, seat)

    def _loop(self, node: nodes.For, seat: _Seat) -> None:
        targets = frozenset(name.name for name in _names(node.target))
        tainted = any(name.name in seat.untrusted for name in _names(node.iter))
        inside = seat.untrusted | targets if tainted else seat.untrusted - targets
        self._visit(node.target, seat)
        self._visit(node.iter, seat.deciding())
        if node.test is not None:
            self._visit(node.test, seat.deciding())
        for child in node.body:
            self._visit(child, replace(seat, untrusted=inside))
        for child in node.else_:
            self._visit(child, seat)

    def _name(self, node: nodes.Name, seat: _Seat) -> None:
        if node.ctx != "load":
            if node.name in self._front.inputs:
                self._note(seat, node, f"{node.name!r} is an input and is not assigned to")
        elif node.name in seat.untrusted:
            self._note(
                seat, node, f"{node.name!r} is untrusted: print it as {{{{ … | untrusted }}}}"
            )

    def _filter(self, node: nodes.Filter, seat: _Seat) -> None:
        if node.name not in self._env.filters:
            why = "; a prompt is the same each time" if node.name == "random" else ""
            self._note(seat, node, f"there is no filter {node.name!r}{why}")
        mapped = any(isinstance(arg, nodes.Const) and arg.value == FILTER for arg in node.args)
        if node.name == FILTER or (node.name == "map" and mapped):
            self._note(seat, node, "untrusted stands alone and last: {{ value | untrusted(id) }}")
        counts = node.name in (FILTER, *_COUNTS)
        self._children(node, seat.deciding() if counts else seat)

    def _include(self, node: nodes.Include, seat: _Seat) -> None:
        name = node.template.value if isinstance(node.template, nodes.Const) else None
        if not isinstance(name, str):
            self._note(seat, node, "an include names its file as plain text, not by an expression")
        elif node.ignore_missing or not node.with_context:
            self._note(seat, node, "an include takes nothing after the name")
        elif name not in self._source.parts or name in seat.above:
            self._note(seat, node, f"an include is written plainly: {{% include {name!r} %}}")
        else:
            place = self._source.parts[name].place
            above = (*seat.above, name)
            self.read(self._trees[name], replace(seat, place=place, above=above))


def _words(error: TemplateSyntaxError) -> str:
    said = (error.message or "the template cannot be parsed").rstrip(".")
    if "nd of template" in said:
        return f"{said}; a block is closed in the section and file that opens it"
    return said


def _unknown_word(error: TemplateSyntaxError) -> bool:
    """Return whether it is a filter or test that is missing, which the reader notes itself."""
    return (error.message or "").startswith(("No filter named", "No test named"))


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    if isinstance(node, nodes.Name):
        yield node
    yield from node.find_all(nodes.Name)
