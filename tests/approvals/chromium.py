"""A real browser for tests: Debian's Chromium, driven by Playwright; nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; without one, tests are skipped, but never where they are the proof."""
    path = shutil.which("chromium")
    if path is None:
        why = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visitor(browser: Browser, **options: Any) -> Iterator[Page]:
    """A person with a browser of their own: no cookies of anyone else; on a phone, if not said."""
    context: BrowserContext = browser.new_context(**({"viewport": PHONE} | options))
    context.set_default_timeout(10_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def tab_stops(page: Page, most: int = 40) -> list[str]:
    """What the Tab key visits, in order, by what a person would call it."""
    stops: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        name = page.evaluate(_NAME)
        if name is None or (stops and name == stops[0]):
            break
        stops.append(name)
    return stops


def labels(page: Page) -> dict[str, int]:
    """How many labels each field has that can be filled in."""
    return page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll("
        "'input:not([type=hidden]), textarea, select')].map(e => [e.id, e.labels.length]))"
    )


_NAME = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  return (at.labels && at.labels.length ? at.labels[0] : at).innerText.trim();
}"""
