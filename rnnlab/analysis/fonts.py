"""Glyphs for every script: what a font lacks is taken from another installed one, what none has is told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Looked for in this order. A character is drawn by the first that has it, so fonts of one script stand together.
_FALLBACKS = (
    *("DejaVu Sans", "Noto Sans"),
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK TC", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP"),
    *("Noto Sans KR", "Source Han Sans SC", "Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("IPAGothic", "TakaoGothic", "NanumGothic", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil"),
    *("Noto Sans Thai", "Noto Sans Georgian", "Noto Sans Armenian", "Noto Sans Ethiopic", "Noto Sans Khmer"),
    *("Noto Sans Symbols", "Noto Sans Symbols2", "Noto Emoji", "FreeSans", "Droid Sans Fallback"),
    *("Arial Unicode MS", "Unifont", "STIXGeneral"),
)


def choose_families(text: str, own: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return the font families that draw a text: its own, and installed ones that have what those lack.

    Args:
        text: any characters; those that cannot be printed need no glyph.
        own: families that are asked first.

    Returns:
        Families in the order in which they are asked, and the characters that none of them has.
    """
    lacking = {character for character in text if character.isprintable() and not character.isspace()}
    families = []
    for family in (*own, *_installed()):
        if family not in own and not lacking:
            break
        found = {character for character in lacking if ord(character) in _code_points(family)}
        if found or family in own:
            families.append(family)
        lacking -= found
    return families, lacking


def complete_fonts(figure: Figure) -> list[str]:
    """Let the texts of a figure take what their own fonts lack from installed ones; return what none has, in order."""
    from matplotlib.text import Text

    for axis in figure.axes:
        for side in (axis.xaxis, axis.yaxis):
            side.get_ticklabels(which="both")  # which are made when first asked for
    missing: set[str] = set()
    for artist in figure.findobj(Text):
        if not artist.get_text().isascii():
            families, lacking = choose_families(artist.get_text(), artist.get_fontfamily())
            artist.set_fontfamily(families)
            missing |= lacking
    return sorted(missing)


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    return tuple(family for family in _FALLBACKS if family in known)


@cache
def _code_points(family: str) -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=[family]))).get_charmap())
