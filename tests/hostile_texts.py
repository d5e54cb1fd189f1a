"""Texts that try to become something else on a page: what slide ids, labels, reasons and titles may hold."""

from zlib import crc32

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "</style><style>*{background:url(http://evil.example/x)}",
    "</title><h1>x</h1>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "\u2028\u2029",
    "<!-- --> <![CDATA[ ]]>",
    "{{7*7}}{% raw %}{# #}",
    "expression(alert(1)) url(//evil.example)",
    "<foreignObject><iframe src=//evil.example>",
    "\u202etxt.exe\u200b",
    "a\x00b\x1b[31m\ud800",
    "x" * 300,
    "&lt;b&gt; &amp;amp;",
    "a onmouseover=alert(1) style=x",
    "组织 \N{MICROSCOPE} ñ $\\frac{1}{2}$",
)


def hostile(plain: str, shift: int = 0) -> str:
    """Append one of the payloads, always the same one to the same text."""
    return plain + PAYLOADS[(crc32(plain.encode()) + shift) % len(PAYLOADS)]
