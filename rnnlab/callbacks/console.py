"""What a run tells its user: on the screen, and without colour in run.log."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.text import Text

# One console for all, so that a line printed while a progress bar is shown appears above it.
console = Console(highlight=False, soft_wrap=True)
log = logging.getLogger("rnnlab")


def can_print(text: str) -> bool:
    """Tell whether the encoding of the screen has all characters of a text."""
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


def say(markup: str) -> None:
    """Print one line of rich markup and note its plain text in the run's log."""
    text = Text.from_markup(markup)
    console.print(text)
    log.info(text.plain)


def readable(value: float) -> str:
    """Return a number with six significant digits, and with all that stand before its point."""
    return f"{value:.0f}" if 999_999.5 <= abs(value) < 1e15 else f"{value:.6g}"
