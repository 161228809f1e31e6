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


def contrasts(page: Page) -> dict[str, float]:
    """The contrast of each text that is shown, as it is drawn, with what is behind it."""
    found: dict[str, float] = page.evaluate(_CONTRASTS)
    return found


_CONTRASTS = """() => {
  const parts = colour => colour.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parts(getComputedStyle(e).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = {}, walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; text = walk.nextNode();) {
    const e = text.parentElement, words = text.data.trim();
    if (!words || e.closest('option') || !e.checkVisibility()) continue;
    const [high, low] = [light(parts(getComputedStyle(e).color)), light(behind(e))]
      .sort((a, b) => b - a);
    found[words] = Math.min(found[words] ?? 99, (high + 0.05) / (low + 0.05));
  }
  return found;
}"""
_NAME = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  return (at.labels && at.labels.length ? at.labels[0] : at).innerText.trim();
}"""
