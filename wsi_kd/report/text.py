"""Text made fit for a drawing: what the font holds, no control characters, a bounded length."""

import unicodedata
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def plain_text(text: str, *, limit: int) -> str:
    """Return `text` in one line of at most `limit` characters that the drawing font has.

    Control characters become a space, formatting ones (text direction overrides) and lone surrogates vanish,
    and characters without a glyph become the replacement character. What is too long loses its middle, since
    the ends tell slide ids apart.

    >>> plain_text("slide_a.very.long.name_7", limit=11)
    'slide…ame_7'
    """
    spaced = "".join(" " if unicodedata.category(letter) in {"Cc", "Zl", "Zp"} else letter for letter in text)
    kept = (letter for letter in spaced if unicodedata.category(letter) not in {"Cf", "Cs", "Co", "Cn"})
    drawn = " ".join("".join(letter if _has_glyph(letter) else REPLACEMENT for letter in kept).split())
    if len(drawn) <= limit:
        return drawn
    head = limit // 2
    return f"{drawn[:head]}{ELLIPSIS}{drawn[len(drawn) - (limit - head - 1) :]}"


@cache
def _has_glyph(letter: str) -> bool:
    return bool(get_font(findfont(FontProperties())).get_char_index(ord(letter)))
