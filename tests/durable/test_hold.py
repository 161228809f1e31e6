"""`hold_on_failure`: a failing run stays open on a callback, and resumes from there."""

import pytest

from perdure.durable import ExecutionStatus, StepError, durable_execution
from perdure.durable.testing import Runner, check_replay

broken = True
ran: list[str] = []


def work():
    ran.append("work")
    if broken:
        raise ValueError("not yet")
    return "done"


@durable_execution(name="hold.sync", hold_on_failure=True)
def sync_handler(event, context):
    first = context.step("first", lambda: ran.append("first") or 1)
    return [first, context.step("work", work)]


@durable_execution(name="hold.async", hold_on_failure=True)
async def async_handler(event, context):
    first = await context.step("first", lambda: ran.append("first") or 1)
    return [first, await context.step("work", work)]


@pytest.mark.parametrize("handler", [sync_handler, async_handler])
@pytest.mark.parametrize("by", ["resume", "send"])
def test_a_held_failure_is_mended_and_goes_on_where_it_stopped(handler, by):
    global broken
    broken = True
    ran.clear()
    with Runner(handlers=[handler]) as runner:
        run = runner.start(handler, id="h")
        runner.settle()
        assert run.status is ExecutionStatus.RUNNING
        assert [wait.path for wait in run.waiting_for()] == ["perdure:failed"]
        for again in (True, False):
            broken = again
            if by == "resume":
                runner.engine.resume("h")
            else:
                runner.engine.send("h", "perdure:failed")
            runner.settle()
        assert run.result(timeout=60) == [1, "done"]
        check_replay(run)
    assert ran == ["first", "work", "work", "work"]


def test_without_it_the_run_fails():
    @durable_execution(name="hold.not")
    def handler(event, context):
        try:
            context.step("work", lambda: 1 / 0)
        except StepError as error:
            raise LookupError("gave up") from error

    with Runner(handlers=[handler]) as runner:
        run = runner.start(handler)
        runner.settle()
        assert run.status is ExecutionStatus.FAILED
