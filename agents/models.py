"""Models by name, instance or factory: made when a call is really sent, once in a process."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from perdure.durable.errors import UsageError

VARIABLE = "PERDURE_MODEL"
OFFLINE = "offline"
MAX_OUTPUT = 4096
"""Output tokens assumed where neither the call nor the model sets a limit."""

_ELSEWHERE = {
    "openai": ("langchain_openai", "ChatOpenAI", "langchain-openai"),
    "anthropic": ("langchain_anthropic", "ChatAnthropic", "langchain-anthropic"),
    "ollama": ("langchain_ollama", "ChatOllama", "langchain-ollama"),
}
_by_text: dict[str, Any] = {}
_by_factory: WeakKeyDictionary[Callable[[], Any], Any] = WeakKeyDictionary()
_warned: set[str] = set()
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Model:
    """A chat model, and what is known of it before it is asked.

    Attributes:
        label: how the journal and the screens name it.
        price_as: the model whose price it has, where that is another.
        own_price: what a stand-in says it costs, dollars per million tokens.
    """

    chat: Any
    label: str
    provider: str
    price_as: str | None = None
    own_price: Mapping[str, Any] | None = None

    def max_output(self, asked: int | None) -> int:
        """Return the most output tokens that a call may give."""
        own = getattr(self.chat, "max_tokens", None)
        found = asked or own or MAX_OUTPUT
        return found if isinstance(found, int) else MAX_OUTPUT


def resolve(model: Any, *, strict: bool = False) -> Model:
    """Return the model that is meant: by a text, a chat model, a factory, or the environment.

    Raises:
        UsageError: there is none of this name, its package is missing, or (`strict`) it makes
            further attempts of its own, which would be paid unseen.
    """
    chat = _chat_of(model)
    if not hasattr(chat, "invoke"):
        raise UsageError(
            f"a model is a text such as 'bedrock:…' or 'offline', a chat model or a function that "
            f"makes one, not {type(chat).__name__}"
        )
    label, provider = _names(chat, model)
    _check_hidden_retries(chat, label, strict)
    own = getattr(chat, "simulated_price", None) or getattr(chat, "price", None)
    return Model(
        chat,
        label,
        provider,
        getattr(chat, "base_model_id", None),
        own if isinstance(own, Mapping) else None,
    )


def _chat_of(model: Any) -> Any:
    if model is None:
        model = os.environ.get(VARIABLE) or OFFLINE
    if hasattr(model, "invoke"):
        return model
    if not isinstance(model, str) and not callable(model):
        return model
    with _guard:
        if isinstance(model, str):
            if model not in _by_text:
                _by_text[model] = _by_name(model)
            return _by_text[model]
        if model not in _by_factory:
            _by_factory[model] = model()
        return _by_factory[model]


def _by_name(name: str) -> Any:
    provider, _, which = name.partition(":")
    if provider == OFFLINE:
        from .offline.chat import OfflineChat

        return OfflineChat()
    known = ", ".join(f"'{each}:…'" for each in ("bedrock", *_ELSEWHERE))
    if not which or (provider != "bedrock" and provider not in _ELSEWHERE):
        raise UsageError(f"there is no model {name!r}; known are 'offline', {known}")
    if provider == "bedrock":
        from .bedrock import BedrockChat

        return BedrockChat(model=which)
    module, cls, package = _ELSEWHERE[provider]
    try:
        make: Callable[..., Any] = getattr(import_module(module), cls)
    except ModuleNotFoundError:
        raise UsageError(f"the model {name!r} needs a package: pip install {package}") from None
    return make(model=which) if provider == "ollama" else make(model=which, max_retries=0)


def _names(chat: Any, asked: Any) -> tuple[str, str]:
    inner = _inner(chat)
    try:
        told = inner._get_ls_params()
    except Exception:  # a foreign model's own hook; its label is not worth a failed call
        told = {}
    name = getattr(inner, "model_id", None) or getattr(inner, "model_name", None)
    name = name or getattr(inner, "model", None) or told.get("ls_model_name")
    provider = told.get("ls_provider") or getattr(inner, "_llm_type", type(inner).__name__)
    if isinstance(asked, str) and asked.partition(":")[0] == "bedrock":
        provider = "bedrock"
    return str(name or asked or type(inner).__name__), str(provider)


def _inner(chat: Any) -> Any:
    for _ in range(8):
        inner = getattr(chat, "bound", None)
        if inner is None:
            break
        chat = inner
    return chat


def _check_hidden_retries(chat: Any, label: str, strict: bool) -> None:
    from .fates import hidden_retries

    hidden = hidden_retries(chat)
    if not hidden:
        return
    text = (
        f"the model {label} makes up to {hidden} further attempts of its own, each of which may be "
        "billed and none of which the journal sees; give it none (max_retries=0, or a client with "
        "total_max_attempts=1) and let retry= of the call do it"
    )
    if strict:
        raise UsageError(text)
    if label not in _warned:
        _warned.add(label)
        warnings.warn(text, stacklevel=2)
