"""Pages in a real browser."""

import json
import re
import shutil
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 240_000  # milliseconds that a page may take, on a machine that is slow, or busy

UNNAMED = re.compile(r"- (?:slider|button|textbox|spinbutton|combobox|checkbox|dialog|region)(?! \")")
"""In an ARIA snapshot: something to use, without a name for those who cannot see what stands beside it."""

FAINT = """() => {
  const number = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (color) => color.slice(0, 3).map((part) => part / 255)
    .map((part) => (part > 0.04045 ? ((part + 0.055) / 1.055) ** 2.4 : part / 12.92))
    .reduce((sum, part, k) => sum + part * [0.2126, 0.7152, 0.0722][k], 0.05);
  const ground = (node) => {
    const color = number(getComputedStyle(node).backgroundColor);
    return color.length < 4 || color[3] > 0.99 ? color : ground(node.parentElement);
  };
  return [...document.querySelectorAll("body *")].filter((node) => {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.disabled || node.tagName === "OPTION") return false;
    const [a, b] = [light(number(getComputedStyle(node).color)), light(ground(node))];
    return Math.max(a, b) / Math.min(a, b) < 4.5;
  }).map((node) => node.textContent);
}"""
"""Texts whose contrast is less than 4.5, the AA of WCAG 2."""


def assert_readable(page: Any) -> None:
    """All that can be used has a name, and all text has contrast."""
    unnamed, faint = UNNAMED.findall(page.locator("body").aria_snapshot()), page.evaluate(FAINT)
    assert not unnamed, unnamed
    assert not faint, faint


def until(page: Any, expression: str, value: Any) -> None:
    """Wait until a JavaScript expression has a value; fail with what it was."""
    try:
        page.wait_for_function(f"JSON.stringify({expression}) === JSON.stringify({json.dumps(value)})")
    except Exception as error:
        raise AssertionError(f"{expression} is {page.evaluate(expression)!r}, not {value!r}") from error
