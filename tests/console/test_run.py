"""`perdure run`: what a person sees, what the shell is told, and that nothing runs twice."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from typing import Any

import pytest

GATED = '{"gated": ["second"]}'


def test_a_run_is_shown_in_plain_lines_with_its_result(perdure: Any) -> None:
    done = perdure("run", "flow.py", "--id", "r1")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["run", "r1", "flow.handler"]
    assert [line[:2] for line in lines if line[0] in ("first", "second")] == [
        ["first", "done"],
        ["second", "done"],
    ]
    assert lines[-2][:2] == ["done", "in"]
    assert done.stdout.splitlines()[-1] == '["FIRST", "SECOND"]'
    assert "the body speaks" in done.stdout
    assert done.stderr == ""


def test_a_pipe_gets_no_escape_codes_whatever_the_environment_says(perdure: Any) -> None:
    done = perdure("run", "flow.py:fails", code=1, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert "\x1b" not in done.stdout + done.stderr


def test_a_made_up_id_is_said_first(perdure: Any) -> None:
    first = perdure("run", "flow.py").stdout.splitlines()[0]
    id = first.split()[1]
    assert perdure.status(id) == "SUCCEEDED"


def test_a_finished_run_is_not_run_again(perdure: Any) -> None:
    perdure("run", "flow.py", "--id", "r1")
    again = perdure("run", "flow.py", "--id", "r1")
    assert "nothing ran again" in again.stdout
    assert again.stdout.splitlines()[-1] == '["FIRST", "SECOND"]'
    assert perdure.ran() == ["first", "second"]


def test_json_is_one_object_and_nothing_else(perdure: Any) -> None:
    done = perdure("run", "flow.py", "--id", "r1", "--json")
    outcome = json.loads(done.stdout)
    assert (outcome["id"], outcome["status"]) == ("r1", "SUCCEEDED")
    assert outcome["result"] == ["FIRST", "SECOND"]
    assert outcome["error"] is None
    assert "the body speaks" in done.stderr
    assert json.loads(perdure("run", "flow.py", "--id", "r1", "--json").stdout) == outcome


@pytest.mark.parametrize("given", ['{"gated": []}', "@event.json", "@-"])
def test_the_input_is_json_a_file_or_standard_input(perdure: Any, given: str) -> None:
    perdure.write("event.json", '{"gated": []}')
    perdure("run", "flow.py", "--input", given, "--id", "r1", input='{"gated": []}')
    shown = json.loads(perdure("show", "r1", "--json").stdout)
    assert shown["input"] == {"gated": []}


def test_the_journal_is_named_by_option_or_environment(perdure: Any) -> None:
    perdure("run", "flow.py", "--id", "r1", "--journal", "a/one.db")
    perdure("run", "flow.py", "--id", "r1", PERDURE_JOURNAL="a/two.db")
    assert perdure.ran() == ["first", "second"] * 2
    assert {path.name for path in (perdure.folder / "a").glob("*.db")} == {"one.db", "two.db"}


# Suspended


def test_a_run_that_waits_for_a_person_says_how_to_continue_and_exits_0(perdure: Any) -> None:
    done = perdure("run", "flow.py:asks", "--id", "r1", "--journal", "j.db")
    assert "event 'approval' until" in done.stdout
    assert "perdure send r1 approval --journal j.db [JSON]" in done.stdout
    assert "perdure resume r1 --journal j.db" in done.stdout
    assert "perdure serve flow.py:asks --journal j.db" in done.stdout


def test_a_suspended_run_is_parseable_too(perdure: Any) -> None:
    outcome = json.loads(perdure("run", "flow.py:asks", "--id", "r1", "--json").stdout)
    (wait,) = outcome["waiting_for"]
    assert (outcome["status"], outcome["active"]) == ("RUNNING", False)
    assert (wait["path"], wait["kind"]) == ("approval", "event")
    assert wait["callback_id"]


def test_short_timers_are_waited_for(perdure: Any) -> None:
    done = perdure("run", "flow.py:naps", "--input", "1")
    assert re.search(r"nap +waiting +goes on in 1 s", done.stdout)
    assert done.stdout.splitlines()[-1] == '"rested"'


def test_wait_says_how_long_a_timer_may_be(perdure: Any) -> None:
    done = perdure("run", "flow.py:naps", "--input", "30", "--wait", "5", "--id", "r1")
    assert "timer 'nap' in 30 s" in done.stdout
    assert perdure.status("r1") == "RUNNING"
    assert "timer 'nap'" in perdure("run", "flow.py:naps", "-i", "30", "-w0", "--id", "r1").stdout
    assert perdure.ran() == ["before"]


# Failed


def test_a_failed_run_shows_the_users_own_lines_and_how_to_go_on(perdure: Any) -> None:
    done = perdure("run", "flow.py:fails", "--id", "r1", code=1)
    _, _, end = done.stdout.partition("failed at second: ")
    assert end.startswith("ValueError: broken [red]x[/red] \\x1b[2J\n")
    assert "flow.py" in end
    assert "in breaks" in end
    assert "/durable/" not in end
    assert "perdure resume r1" in end


def test_retries_are_counted_and_announced(perdure: Any) -> None:
    policy = '{"max_attempts": 2, "initial_delay": 1, "jitter": "none"}'
    done = perdure("run", "flow.py:fails", "--input", policy, code=1)
    assert re.search(r"second +retrying +in 1 s; attempt 1: ValueError: broken", done.stdout)
    assert "failed at second, after 2 attempts: ValueError" in done.stdout


def test_a_failed_run_is_parseable_too(perdure: Any) -> None:
    outcome = json.loads(perdure("run", "flow.py:fails", "--json", code=1).stdout)
    error = outcome["error"]
    assert outcome["status"] == "FAILED"
    assert (error["type"], error["operation"]) == ("ValueError", "second")
    assert error["message"].startswith("broken [red]")


def test_run_of_a_failed_run_says_that_it_failed_before(perdure: Any) -> None:
    perdure("run", "flow.py:fails", "--id", "r1", code=1)
    again = perdure("run", "flow.py:fails", "--id", "r1", code=1)
    assert "nothing ran again" in again.stdout
    assert "perdure resume r1" in again.stdout
    assert perdure.ran() == ["first", "second"]


def test_a_failure_that_is_held_open_is_a_failure_too(perdure: Any) -> None:
    text = (perdure.folder / "flow.py").read_text()
    held = "@durable_execution(hold_on_failure=True)\ndef fails"
    perdure.write("flow.py", text.replace("@durable_execution\ndef fails", held))
    done = perdure("run", "flow.py:fails", "--id", "r1", code=1)
    assert "failed at second: ValueError" in done.stdout
    assert "perdure resume r1" in done.stdout
    assert "perdure:failed" not in done.stdout
    assert "its failure to be mended" in perdure("list").stdout
    perdure.write("fixed", "")
    assert perdure("resume", "r1").stdout.splitlines()[-1] == '"mended"'


# Killed and stopped


def test_a_killed_run_goes_on_with_the_same_command(perdure: Any) -> None:
    words = ("run", "flow.py", "--input", GATED, "--id", "r1")
    process = perdure.start(*words)
    perdure.until_begun("r1", "second")
    process.kill()
    process.wait()
    perdure.open_gate("second")
    done = perdure(*words)
    assert perdure.ran() == ["first", "second", "second"]
    assert re.search(r"first +replayed", done.stdout)
    assert "1 operation run, 1 replayed" in done.stdout
    assert done.stdout.splitlines()[-1] == '["FIRST", "SECOND"]'


def test_ctrl_c_lets_the_body_in_flight_be_recorded(perdure: Any) -> None:
    words = ("run", "flow.py", "--input", GATED, "--id", "r1")
    process = perdure.start(*words)
    perdure.until_begun("r1", "second")
    process.send_signal(signal.SIGINT)
    perdure.until_said("letting second end and be recorded; Ctrl-C again leaves at once")
    perdure.until_said("perdure resume r1")
    perdure.open_gate("second")
    assert process.wait(60) == 130
    assert "recorded: second" in perdure.output()
    assert "Traceback" not in perdure.output()
    perdure(*words)
    assert perdure.ran() == ["first", "second"]


def test_a_second_ctrl_c_leaves_at_once(perdure: Any) -> None:
    process = perdure.start("run", "flow.py", "--input", GATED, "--id", "r1")
    perdure.until_begun("r1", "second")
    process.send_signal(signal.SIGINT)
    perdure.until_said("Ctrl-C again leaves at once")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert perdure.status("r1") == "RUNNING"
    perdure.open_gate("second")
    assert perdure("resume", "r1").stdout.splitlines()[-1] == '["FIRST", "SECOND"]'


def test_a_terminated_run_loses_nothing_either(perdure: Any) -> None:
    process = perdure.start("run", "flow.py", "--input", GATED, "--id", "r1")
    perdure.until_begun("r1", "second")
    process.terminate()
    perdure.until_said("nothing is lost")
    perdure.open_gate("second")
    assert process.wait(60) == 143
    assert perdure.operations("r1")["second"].closed


# A terminal


def test_a_terminal_gets_a_live_tree_and_its_cursor_back(perdure: Any) -> None:
    perdure.open_gate("second")
    shown = in_terminal(perdure, "run", "flow.py", "--input", GATED, "--id", "r1")
    assert "✓ first" in plain(shown)
    assert "✓ second" in plain(shown)
    assert "the body speaks" in plain(shown)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert plain(shown).rstrip().endswith('["FIRST", "SECOND"]')


def test_a_dumb_terminal_gets_plain_lines(perdure: Any) -> None:
    shown = in_terminal(perdure, "run", "flow.py", "--id", "r1", TERM="dumb")
    assert "\x1b[?25l" not in shown
    assert re.search(r"second +done", plain(shown))


def in_terminal(perdure: Any, *words: str, **env: str) -> str:
    """Run a command on a terminal of its own, and return all that it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        perdure.command(*words),
        cwd=perdure.folder,
        env=perdure.environment({"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(ours)
    assert process.wait(60) == 0
    return shown.decode()


def plain(text: str) -> str:
    """Leave the escape codes out."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
