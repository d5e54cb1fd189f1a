"""A page as one HTML file: all inside, every text escaped, nothing fetched, no script but the page's own."""

import base64
import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wsi_kd.report.page import Page

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_POLICY = (
    "default-src 'none'; img-src {images}; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
    "base-uri 'none'; form-action 'none'"
)


def render_page(page: Page) -> str:
    """Return the page as HTML; equal pages give equal text.

    The content security policy allows the page's one style sheet and one script by their hashes, images from
    inside the page, and nothing else.
    """
    return render_template(
        "report.html.j2", styles=("report.css",), script="report.js", images="data:", page=page
    )


def render_template(name: str, *, styles: Sequence[str], script: str, images: str, **values: object) -> str:
    """Render a template with its style sheets and script inside; every text is escaped.

    Args:
        name: template; it places `policy`, `style` and `script`.
        styles: style sheets, joined in this order.
        script: the one script.
        images: sources that images may come from, as a content security policy names them.
        **values: what else the template shows.
    """
    environment = Environment(
        loader=PackageLoader("wsi_kd.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_printable,
    )
    style = "".join(_source(environment, sheet) for sheet in styles)
    code = _source(environment, script)
    policy = _POLICY.format(images=images, style=_digest(style), script=_digest(code))
    template = environment.get_template(name)
    return template.render(policy=policy, style=Markup(style), script=Markup(code), **values)


def _source(environment: Environment, name: str) -> str:
    loader = environment.loader
    assert loader is not None
    return loader.get_source(environment, name)[0]


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _printable(value: Any) -> Any:
    """Replace what HTML cannot hold (control characters, lone surrogates) and what reorders other text."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value  # what reorders text is not printable either
    return "".join(REPLACEMENT if _is_odd(letter) else letter for letter in value)


def _is_odd(letter: str) -> bool:
    if letter in "\n\t":
        return False
    return unicodedata.category(letter) in {"Cc", "Cs"} or unicodedata.bidirectional(letter) in _REORDERING
