"""What tokens cost: the user's own table first, then the model's own price, then genai-prices.

A price is found once, when the answer is recorded, and kept with it and its source; old calls are
never priced again. A model nobody has a price for is unpriced, which is not the same as free.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from perdure.durable.errors import UsageError

from .reply import Cost, Usage

UNPRICED = Cost(None, "unpriced")
_MILLION = Decimal(1_000_000)
_KEYS = ("input", "output", "cache_read", "cache_write", "multiplier")
_PROVIDERS = {"bedrock": "aws", "bedrock_converse": "aws", "amazon_bedrock": "aws"}
_table: dict[str, dict[str, Decimal]] = {}
_guard = threading.Lock()


def set_prices(table: Mapping[str, Mapping[str, Any]]) -> None:
    """Set the prices that win over all others, for this process.

    Args:
        table: by model, as a glob (`"*claude-sonnet-4*"`), US dollars per million tokens: `input`,
            `output`, and where they differ `cache_read` and `cache_write`; `multiplier` scales all
            (0.5 for a batch). The first glob that fits counts.

    Raises:
        UsageError: an unknown key, or a price that is no number of at least zero.
    """
    checked = {model: _checked(model, prices) for model, prices in table.items()}
    with _guard:
        _table.clear()
        _table.update(checked)


def cost(provider: str, model: str, usage: Usage, own: Mapping[str, Any] | None = None) -> Cost:
    """Return what tokens of a model cost.

    Args:
        provider: as the model's library names it.
        own: the price that a stand-in gives itself; called simulated.
    """
    for glob, prices in _table.items():
        if fnmatchcase(model, glob):
            return Cost(_sum(prices, usage), f"own price {glob}")
    if own is not None:
        return Cost(_sum(_checked(model, own), usage), "simulated")
    return _published(provider, model, usage)


def _published(provider: str, model: str, usage: Usage) -> Cost:
    try:
        import genai_prices
        from genai_prices import Usage as TheirUsage
    except ModuleNotFoundError:
        return Cost(None, "unpriced (pip install 'perdure[prices]')")
    tokens = TheirUsage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read or None,
        cache_write_tokens=usage.cache_write or None,
    )
    try:
        found = genai_prices.calc_price(
            tokens, model_ref=model, provider_id=_PROVIDERS.get(provider, provider)
        )
    except (LookupError, ValueError):
        return UNPRICED
    return Cost(found.total_price, f"genai-prices {genai_prices.__version__}")


def _sum(prices: Mapping[str, Decimal], usage: Usage) -> Decimal:
    read, written = usage.cache_read, usage.cache_write
    fresh = max(0, usage.input - read - written)
    total = (
        fresh * prices["input"]
        + read * prices.get("cache_read", prices["input"])
        + written * prices.get("cache_write", prices["input"])
        + usage.output * prices["output"]
    )
    return total * prices.get("multiplier", Decimal(1)) / _MILLION


def _checked(model: str, prices: Mapping[str, Any]) -> dict[str, Decimal]:
    unknown = [key for key in prices if key not in _KEYS]
    missing = [key for key in ("input", "output") if key not in prices]
    if unknown or missing:
        wrong = f"has no {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise UsageError(f"the price of {model!r} {wrong}; it takes {', '.join(_KEYS)}")
    checked = {}
    for key, value in prices.items():
        try:
            checked[key] = Decimal(str(value))
        except ArithmeticError:
            raise UsageError(f"the price of {model!r}: {key} is a number, not {value!r}") from None
        if not checked[key].is_finite() or checked[key] < 0:
            raise UsageError(f"the price of {model!r}: {key} is at least zero, not {value!r}")
    return checked
