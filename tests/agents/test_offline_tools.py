"""The offline stand-in searches, reads what was found, and answers from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from perdure.agents.offline.chat import OfflineChat
from perdure.durable.errors import UsageError

from .papers import ASKED, CONTRACT, MINUTES

LIBRARY = {"contract.md": CONTRACT, "minutes.md": MINUTES, "menu.md": "Soup is served at noon."}


@tool
def search_documents(query: str, limit: int = 10) -> str:
    """Find documents by words."""
    found = [name for name, text in LIBRARY.items() if _shares(query, text)]
    return json.dumps({"results": [{"name": name} for name in found]})


@tool
def read_document(name: str) -> str:
    """Read a document."""
    number = list(LIBRARY).index(name) + 1
    return f"[{number}] {LIBRARY[name]}"


@tool
def delete_document(name: str) -> str:
    """Find a document and delete it."""
    raise AssertionError("never called")


@tool
def submit_answer(summary: str, sources: list[int]) -> str:
    """Hand in the answer."""
    return "thanks"


def _shares(query: str, text: str) -> bool:
    return any(word in text.casefold() for word in query.casefold().split())


def converse(asked: str, tools: list[Any], most: int = 10) -> list[Any]:
    """Let the stand-in use the tools until it answers; return all messages."""
    model = OfflineChat().bind_tools(tools)
    named = {each.name: each for each in tools}
    messages: list[Any] = [HumanMessage(asked)]
    for _ in range(most):
        said = model.invoke(messages)
        messages.append(said)
        if not said.tool_calls or said.tool_calls[0]["name"] == "submit_answer":
            return messages
        messages += [named[call["name"]].invoke(call) for call in said.tool_calls]
    raise AssertionError("it never answered")


def called(messages: list[Any]) -> list[list[tuple[str, dict[str, Any]]]]:
    return [
        [(call["name"], call["args"]) for call in message.tool_calls]
        for message in messages
        if isinstance(message, AIMessage) and message.tool_calls
    ]


def test_it_searches_reads_what_was_found_and_answers_from_it() -> None:
    tools = [search_documents, read_document, delete_document]
    messages = converse("What is the penalty in the contract?", tools)
    assert called(messages) == [
        [("search_documents", {"query": "penalty contract"})],
        [("read_document", {"name": "contract.md"}), ("read_document", {"name": "minutes.md"})],
    ]
    assert "a penalty of 2 % per week applies. [1]" in messages[-1].content
    assert "The board did not decide on the penalty. [2]" in messages[-1].content


def test_it_searches_once_more_with_fewer_words_and_then_says_that_nothing_is_there() -> None:
    messages = converse("Where do zebras sleep at night?", [search_documents, read_document])
    rounds = called(messages)
    assert [name for ((name, _),) in rounds] == ["search_documents", "search_documents"]
    assert rounds[0] != rounds[1]
    assert "found nothing" in messages[-1].content


def test_a_tool_that_takes_the_answer_is_given_it() -> None:
    tools = [search_documents, read_document, submit_answer]
    last = converse("What is the penalty in the contract?", tools)[-1].tool_calls[0]
    assert last["name"] == "submit_answer"
    assert "a penalty of 2 % per week applies." in last["args"]["summary"]
    assert last["args"]["sources"] == [1, 2]


def test_what_the_request_names_is_read_without_a_search() -> None:
    messages = converse("Summarise minutes.md", [read_document])
    assert called(messages) == [[("read_document", {"name": "minutes.md"})]]


def test_names_are_taken_from_plain_text_results_too() -> None:
    @tool
    def list_files() -> str:
        """List the files."""
        return "- menu.md (1 kB)\n- minutes.md (2 kB)"

    messages = converse("When is soup served?", [list_files, read_document])
    assert called(messages)[1] == [
        ("read_document", {"name": "menu.md"}),
        ("read_document", {"name": "minutes.md"}),
    ]
    assert "Soup is served at noon. [3]" in messages[-1].content


def test_no_call_is_made_twice_and_rounds_end() -> None:
    @tool
    def search(query: str) -> str:
        """Search."""
        return ""

    rounds = called(converse("Look for the blue whale and its song", [search]))
    assert 1 <= len(rounds) <= 4
    flat = [json.dumps(call) for calls in rounds for call in calls]
    assert len(flat) == len(set(flat))


def test_a_failed_tool_is_not_taken_for_a_source() -> None:
    call = {"name": "search_documents", "args": {"query": "fee"}, "id": "c1"}
    failed = ToolMessage("The server at secret.example broke down.", tool_call_id="c1")
    failed.status = "error"
    messages = [HumanMessage("What is the fee?"), AIMessage("", tool_calls=[call]), failed]
    assert "secret" not in OfflineChat().invoke(messages).content


def test_a_forced_tool_is_called_and_an_unknown_one_refused() -> None:
    model = OfflineChat()
    said = model.bind_tools([search_documents, submit_answer], tool_choice="submit_answer")
    assert said.invoke(ASKED).tool_calls[0]["name"] == "submit_answer"
    assert model.bind_tools([submit_answer], tool_choice="none").invoke(ASKED).tool_calls == []
    with pytest.raises(UsageError, match="submit_answer.*'sumbit'"):
        model.bind_tools([submit_answer], tool_choice="sumbit")


def test_calls_of_one_turn_have_ids_of_their_own() -> None:
    messages = converse("What is the penalty in the contract?", [search_documents, read_document])
    ids = [call["id"] for message in messages for call in getattr(message, "tool_calls", ())]
    assert len(ids) == len(set(ids)) == 3
