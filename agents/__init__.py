"""Model calls that are paid once, and what agents are made of.

The names below are loaded when first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable.lazy import lazily

if TYPE_CHECKING:
    from .agent import Agent, AgentResult, StopReason
    from .bedrock import BedrockChat
    from .budgets import Budget
    from .errors import (
        BudgetExceeded,
        CallInDoubt,
        Fate,
        InvalidRequest,
        ModelCallError,
        OutputInvalid,
        RequestError,
        RequestsForbidden,
        UnreadableAnswer,
    )
    from .fates import fate_of
    from .findings import (
        Failure,
        Finding,
        Findings,
        NothingFound,
        ResearchError,
        TaskTimedOut,
        research,
    )
    from .langchain_model import durable_model
    from .ledgers import Ledger, Totals, ledger
    from .model_calls import llm
    from .models import resolve
    from .offline.chat import OfflineChat
    from .plans import Effort, Plan, PlanRejected, Task, decompose
    from .prices import set_prices
    from .reply import Cost, Reply, Usage
    from .reports import InputTooLarge, Report, synthesize
    from .sources import Source, SourceRef
    from .tools import Tool, ToolError, ToolRequest, tool

_HOMES = {
    "agent": "Agent AgentResult StopReason",
    "bedrock": "BedrockChat",
    "budgets": "Budget",
    "errors": (
        "BudgetExceeded CallInDoubt Fate InvalidRequest ModelCallError"
        " OutputInvalid RequestError RequestsForbidden UnreadableAnswer"
    ),
    "fates": "fate_of",
    "findings": "Failure Finding Findings NothingFound ResearchError TaskTimedOut research",
    "langchain_model": "durable_model",
    "ledgers": "Ledger Totals ledger",
    "model_calls": "llm",
    "models": "resolve",
    "offline.chat": "OfflineChat",
    "plans": "Effort Plan PlanRejected Task decompose",
    "prices": "set_prices",
    "reply": "Cost Reply Usage",
    "reports": "InputTooLarge Report synthesize",
    "sources": "Source SourceRef",
    "tools": "Tool ToolError ToolRequest tool",
}

__all__ = [
    "Agent",
    "AgentResult",
    "BedrockChat",
    "Budget",
    "BudgetExceeded",
    "CallInDoubt",
    "Cost",
    "Effort",
    "Failure",
    "Fate",
    "Finding",
    "Findings",
    "InputTooLarge",
    "InvalidRequest",
    "Ledger",
    "ModelCallError",
    "NothingFound",
    "OfflineChat",
    "OutputInvalid",
    "Plan",
    "PlanRejected",
    "Reply",
    "Report",
    "RequestError",
    "RequestsForbidden",
    "ResearchError",
    "Source",
    "SourceRef",
    "StopReason",
    "Task",
    "TaskTimedOut",
    "Tool",
    "ToolError",
    "ToolRequest",
    "Totals",
    "UnreadableAnswer",
    "Usage",
    "decompose",
    "durable_model",
    "fate_of",
    "ledger",
    "llm",
    "research",
    "resolve",
    "set_prices",
    "synthesize",
    "tool",
]

__getattr__ = lazily(__name__, _HOMES)
