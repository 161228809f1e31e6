"""Handlers that ask scripted models, run by the tests as a user's file."""

import os
import time
from pathlib import Path

from pydantic import BaseModel

from perdure.agents import Budget, InvalidRequest, UnreadableAnswer, llm
from perdure.agents.testing import ScriptedModel
from perdure.durable import Duration, durable_execution

HERE = Path(__file__).parent
PRICE = {"input": 3.0, "output": 15.0}


class Count(BaseModel):
    number: int


def scripted(*script, price=PRICE, **more):
    return ScriptedModel(list(script), usage=(1234, 56), price=price, **more)


@durable_execution
def talks(event, context):
    model = scripted("Hello \x1b[2J there.", "More")
    llm(context, "greet", [("system", "Be kind"), ("user", "Say [red]hello")], model=model)
    llm(context, "more", "Secret question", model=model, record_prompts=False)
    return context.step("after", lambda: "done")


@durable_execution
def repairs(event, context):
    model = scripted({"tool": "Count", "args": {"number": "x"}}, Count(number=3), price=None)
    return llm(context, "count", "How many?", model=model, output=Count).output.number


@durable_execution
def offline(event, context):
    return llm(context, "ask", "The fee is 3 %. What is the fee?", model="offline").text


@durable_execution
def plain(event, context):
    return context.step("only", lambda: "x")


@durable_execution
def breaks(event, context):
    model = scripted(UnreadableAnswer("cut off"), InvalidRequest("too long"))
    return llm(context, "try", "Hello", model=model, retry={"initial_delay": 0}).text


@durable_execution
def asks(event, context):
    model = scripted("Hello", loop=True)
    llm(context, "greet", "Hello", model=model)
    context.wait(Duration.from_days(1), name="approval")
    return "over"


@durable_execution
def runs_dry(event, context):
    model = scripted("Hello", loop=True)
    budget = Budget(usd=0.01, on_exceeded=event)
    return llm(context, "greet", "Hello", model=model, budget=budget).text


@durable_execution
def dies(event, context):
    def answer(messages, options):
        if not (HERE / "lives").exists():
            os._exit(9)
        return "alive"

    model = ScriptedModel(answer, usage=(1234, 56), price=PRICE)
    return llm(context, "greet", "Hello", model=model, if_interrupted=event).text


@durable_execution
def streams(event, context):
    def heard(text):
        while "last" in text and not (HERE / "open-stream").exists():
            time.sleep(0.01)

    model = scripted("once upon a time \x1b[2J there was a very long story, its last words")
    return llm(context, "tell", "A story", model=model, stream=heard).text
