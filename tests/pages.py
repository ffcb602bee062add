"""Pages in a real browser."""

import json
import shutil
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def until(page: Any, expression: str, value: Any) -> None:
    """Wait until a JavaScript expression has a value; fail with what it was."""
    try:
        page.wait_for_function(f"JSON.stringify({expression}) === JSON.stringify({json.dumps(value)})")
    except Exception as error:
        raise AssertionError(f"{expression} is {page.evaluate(expression)!r}, not {value!r}") from error
