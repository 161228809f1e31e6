"""What can be wrong with a prompt, and where: the file and the line, as far as they are known."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.durable.errors import UsageError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a prompt; `line` counts from 1, None if there is no one line."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.message}"


class PromptError(UsageError):
    """A prompt cannot be read, breaks a rule, or was given inputs it does not take.

    Attributes:
        problems: all that was found, in the order of the lines; the text shows the first.
    """

    def __init__(self, *problems: Problem) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = problems

    @classmethod
    def at(cls, path: str, line: int | None, message: str) -> PromptError:
        """Return the error of a single problem."""
        return cls(Problem(path, line, message))


class Findings:
    """The problems found so far, in the file at `path` unless said otherwise."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: dict[Problem, None] = {}

    def add(self, line: int | None, message: str, path: str | None = None) -> None:
        """Note a problem; one that is noted already counts once."""
        self._found[Problem(self._path if path is None else path, line, message)] = None

    def raise_any(self) -> None:
        """Raise the problems that were found, if there are any.

        Raises:
            PromptError: with all of them, by line, the prompt's own file first.
        """
        if self._found:
            raise PromptError(*sorted(self._found, key=self._order))

    def _order(self, problem: Problem) -> tuple[bool, str, int]:
        return problem.path != self._path, problem.path, problem.line or 0
