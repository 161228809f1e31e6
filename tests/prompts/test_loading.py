"""Prompts from files: what is read, what the version covers, and what is refused."""

import os
import subprocess
import sys
from hashlib import sha256

import pytest

from perdure.prompts import Message, Prompt, PromptError

PROBE = """
import sys
from perdure.prompts import Prompt, fence
prompt = Prompt.load(sys.argv[1])
print(prompt.name, prompt.version)
fence("text")
heavy = {"jinja2", "yaml", "pydantic", "markupsafe", "rich", "langchain_core"} & set(sys.modules)
assert not heavy, heavy
prompt.check()
assert {"jinja2", "yaml"} <= set(sys.modules)
"""


def test_loading_a_prompt_needs_no_template_engine_and_no_yaml(write):
    write("style.txt", "Be brief.")
    path = write("a.prompt", '---\nname: short\n---\n{% include "style.txt" %}\n')
    command = [sys.executable, "-c", PROBE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["short", Prompt.load(path).version]


def test_the_version_of_a_single_file_is_its_sha256(write):
    path = write("a.prompt", "---\ndescription: x\n---\nHello é.\n")
    assert Prompt.load(path).version == sha256(path.read_bytes()).hexdigest()


def test_the_version_changes_with_anything_that_is_included(write):
    path = write("a.prompt", '{% include "b.txt" %}')
    write("b.txt", '{% include "c/d.txt" %}')
    write("c/d.txt", "one")
    before = Prompt.load(path).version
    assert Prompt.load(path).version == before
    write("c/d.txt", "two")
    assert Prompt.load(path).version != before


def test_moving_text_between_includes_changes_the_version():
    body = '{% include "a" %}{% include "b" %}'
    one = Prompt.from_string(body, includes={"a": "xy", "b": "z"})
    two = Prompt.from_string(body, includes={"a": "x", "b": "yz"})
    assert one.render().messages == two.render().messages
    assert one.version != two.version


def test_line_ends_and_a_byte_order_mark_make_no_other_version(write):
    unix = Prompt.load(write("a.prompt", "---\nname: a\n---\nsystem:\nHi\nuser:\nyou\n"))
    dos = b"\xef\xbb\xbf---\r\nname: a\r\n---\r\nsystem:\r\nHi\r\nuser:\r\nyou\r\n"
    other = Prompt.load(write("b.prompt", dos))
    assert other.version == unix.version
    assert other.render().messages == (Message("system", "Hi"), Message("user", "you"))


def test_a_prompt_keeps_its_content_when_its_file_changes(write):
    prompt = Prompt.load(write("a.prompt", "before"))
    version = prompt.version
    write("a.prompt", "after")
    assert prompt.render().messages[0].text == "before"
    assert prompt.version == version == prompt.render().version


@pytest.mark.parametrize("file", ["plan.prompt", "plan.prompt.md", "plan.txt"])
def test_a_prompt_is_named_after_its_file(write, file):
    assert Prompt.load(write(file, "x")).name == "plan"


@pytest.mark.parametrize("line", ["name: a/b.c-1", "name: 'a/b.c-1'", 'name:  "a/b.c-1"  # why'])
def test_the_front_matter_may_name_it(write, line):
    prompt = Prompt.load(write("plan.prompt", f"---\n{line}\n---\nx"))
    assert prompt.name == prompt.render().name == "a/b.c-1"


def test_a_name_that_could_be_missed_is_refused():
    prompt = Prompt.from_string("---\nname: >\n  folded\n---\nx")
    with pytest.raises(PromptError, match="on a line of its own: 'name: folded'|name is 1 to 100"):
        prompt.check()
    with pytest.raises(PromptError, match="'name: flow'"):
        Prompt.from_string("---\n{name: flow}\n---\nx").check()


def test_included_files_are_named_from_the_root(write, tmp_path):
    write("shared/style.txt", "Be brief.\n")
    path = write("research/plan.prompt", '{% include "shared/style.txt" %}\nGo.')
    assert Prompt.load(path, root=tmp_path).render().messages[0].text == "Be brief.\nGo."
    with pytest.raises(
        PromptError, match=r"plan.prompt:1: include 'shared/style.txt': there is no"
    ):
        Prompt.load(path)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "not absolute"),
        ("../secret.txt", "leads down"),
        ("a/../../secret.txt", "leads down"),
        ("./a.txt", "leads down"),
        ("a//b.txt", "leads down"),
        ("", "leads down"),
        ("..\\secret.txt", "without"),
        ("C:/secret.txt", "without"),
        ("file:///etc/passwd", "without"),
        ("a\tb", "printable"),
        ("missing.txt", "there is no such file"),
        ("folder", "it is no file"),
        ("x" * 5000, "cannot be read"),
    ],
)
def test_an_include_stays_below_the_root(write, name, why):
    write("folder/b.txt", "b")
    write("a.txt", "a")
    path = write("a.prompt", f'one\n\n{{% include "{name}" %}}')
    with pytest.raises(PromptError, match=rf"a\.prompt:3: include .*{why}"):
        Prompt.load(path)


def test_a_link_out_of_the_root_is_refused(write, tmp_path):
    secret = write("secret.txt", "secret")
    path = write("prompts/a.prompt", '{% include "link.txt" %}')
    os.symlink(secret, tmp_path / "prompts" / "link.txt")
    with pytest.raises(PromptError, match="leads out of the prompt's root"):
        Prompt.load(path)


def test_a_pipe_is_no_prompt(tmp_path):
    os.mkfifo(tmp_path / "a.prompt")
    with pytest.raises(PromptError, match=r"a\.prompt: it is no file"):
        Prompt.load(tmp_path / "a.prompt")


@pytest.mark.parametrize(
    "files",
    [
        {"a.prompt": '{% include "a.prompt" %}'},
        {"a.prompt": '{% include "b" %}', "b": '{% include "c" %}', "c": 'x\n{% include "b" %}'},
        {"a.prompt": '{% include "b" %}', "b": '{% include "a.prompt" %}'},
    ],
)
def test_an_include_that_leads_back_to_itself_is_refused(write, files):
    for name, text in files.items():
        write(name, text)
    with pytest.raises(PromptError, match="leads back to itself: .* -> "):
        Prompt.load(write("a.prompt", files["a.prompt"]))


def test_a_very_long_chain_of_includes_is_refused():
    includes = {str(n): f'{{% include "{n + 1}" %}}' for n in range(2000)}
    with pytest.raises(PromptError, match="more than 50 deep"):
        Prompt.from_string('{% include "0" %}', includes=includes)


def test_a_file_may_be_included_twice():
    prompt = Prompt.from_string('{% include "a" %}-{% include "a" %}', includes={"a": "x"})
    assert prompt.render().messages[0].text == "x-x"


def test_an_include_in_a_comment_or_a_raw_block_is_none():
    prompt = Prompt.from_string(
        'x{# {% include "gone" %} #}{% raw %}{% include "gone" %}{% endraw %}'
    )
    assert prompt.render().messages[0].text == 'x{% include "gone" %}'


def test_what_the_version_does_not_cover_is_never_included():
    hidden = "{{ '{#' }}{% include 'a' %}{{ '#}' }}"
    with pytest.raises(PromptError, match="written plainly"):
        Prompt.from_string(hidden, includes={"a": "x"}).check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\nfine\n\xff\xfe", r"a\.prompt:3: it is not UTF-8 text: byte 0xff"),
        ("Hello".encode("utf-16"), r"a\.prompt:1: it is not UTF-8 text: byte 0xff"),
        ("Hello".encode("utf-16-le"), "holds a NUL"),
        (b"one\ntwo\0", r"a\.prompt:2: it holds a NUL"),
        (b"---\nname: x\n", r"a\.prompt:1: the front matter has no closing line '---'"),
        (b"\n\n---\nname: x\n---\n", r"a\.prompt:3: front matter begins on line 1"),
        (b"x" * 10_000_001, r"a\.prompt: it is larger than 10,000,000 bytes"),
    ],
)
def test_a_file_that_cannot_be_a_prompt_is_named(write, content, message):
    with pytest.raises(PromptError, match=message):
        Prompt.load(write("a.prompt", content))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(PromptError, match=r"gone\.prompt: there is no such file"):
        Prompt.load(tmp_path / "gone.prompt")
    with pytest.raises(PromptError, match="it is no file"):
        Prompt.load(tmp_path)
    with pytest.raises(PromptError, match="its root is no folder"):
        Prompt.load(tmp_path / "gone.prompt", root=tmp_path / "nowhere")
    with pytest.raises(PromptError, match="a prompt's path is no int"):
        Prompt.load(3)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b"bytes", {}),
        ("x", {"name": "a b\n"}),
        ("x", {"name": 3}),
        ("x", {"includes": {"a": b"x"}}),
        ('{% include "a" %}', {}),
        ("half \ud800", {}),
    ],
)
def test_a_prompt_from_a_string_is_checked_alike(text, more):
    with pytest.raises(PromptError):
        Prompt.from_string(text, **more)
