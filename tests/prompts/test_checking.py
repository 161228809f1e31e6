"""A folder of prompts, checked by function and by command."""

import json

import pytest

from perdure.console import prompting
from perdure.durable import UsageError
from perdure.prompts import Problem, check_folder


def test_a_clean_folder_has_no_problems(write, tmp_path, capsys):
    write("a.prompt", "Hello.")
    write("deep/down/b.prompt", "Hello.")
    assert check_folder(tmp_path) == []
    assert prompting.check(str(tmp_path), as_json=False) == 0
    assert capsys.readouterr().out == "2 prompts, no problems\n"


def test_each_problem_of_each_prompt_is_one_line(write, tmp_path, capsys):
    write("a.prompt", "fine")
    write("b.prompt", "---\nnme: x\n---\n\n{{ y }}")
    write("c/d.prompt", b"\xff")
    assert check_folder(tmp_path) == [
        Problem(f"{tmp_path}/b.prompt", 2, "the front matter has no 'nme'; did you mean 'name'?"),
        Problem(
            f"{tmp_path}/b.prompt",
            5,
            "it uses 'y', which is no input; declare it in input.schema",
        ),
        Problem(f"{tmp_path}/c/d.prompt", 1, "it is not UTF-8 text: byte 0xff"),
    ]
    assert prompting.check(str(tmp_path), as_json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/b.prompt:2: the front matter has no 'nme'")
    assert len(lines) == 4
    assert lines[3] == "3 problems in 3 prompts"


def test_problems_are_told_as_json_too(write, tmp_path, capsys):
    write("a.prompt", "{{ y }}")
    assert prompting.check(str(tmp_path), as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {
        "prompts": 1,
        "problems": [
            {
                "path": f"{tmp_path}/a.prompt",
                "line": 1,
                "message": "it uses 'y', which is no input; declare it in input.schema",
            }
        ],
    }


def test_what_a_file_holds_cannot_steer_the_terminal(write, tmp_path, capsys):
    write("a.prompt", '---\n"x\\e[2J[red]": 1\n---\nhi')
    assert prompting.check(str(tmp_path), as_json=False) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[red]" in said


def test_parts_and_hidden_files_are_not_checked_by_themselves(write, tmp_path):
    write("a.prompt", '{% set x = 1 %}{% include "_part.prompt" %}')
    write("_part.prompt", "{{ x }}")
    write(".cache/b.prompt", "{{ broken")
    assert check_folder(tmp_path) == []


def test_includes_may_be_named_from_a_root(write, tmp_path):
    write("deep/a.prompt", '{% include "shared.txt" %}')
    write("shared.txt", "Hello.")
    assert check_folder(tmp_path, root=tmp_path) == []
    (problem,) = check_folder(tmp_path)
    assert "include 'shared.txt': there is no such file" in problem.message


def test_a_folder_that_cannot_be_checked_is_the_users_mistake(write, tmp_path):
    file = write("a.prompt", "x")
    (tmp_path / "empty").mkdir()
    for folder, message in (
        (tmp_path / "gone", "there is no such folder"),
        (file, "it is a file; give the folder"),
        (tmp_path / "empty", r"there is no \*\.prompt file in this folder"),
    ):
        with pytest.raises(UsageError, match=message):
            prompting.check(str(folder), as_json=False)
