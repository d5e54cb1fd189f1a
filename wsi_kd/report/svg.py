"""A matplotlib figure as markup for inside a page: no style attribute, no date, no script, its own ids.

The page's content security policy forbids inline styles, so each becomes the SVG attribute of the same name.
INK is drawn in the page's text color, light or dark.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#102030"
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_FONT = re.compile(r"(?:(?P<weight>bold|\d00) )?(?P<size>[\d.]+)px (?P<family>.+)")
_PLACES = {"d", "x", "y"}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_STYLE = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "figure.edgecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@contextmanager
def chart_style(name: str) -> Iterator[None]:
    """Draw within the report's style; `name` keeps the ids of two charts on one page apart."""
    parameters: Any = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(parameters):
        yield


def inline_svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    """Return the figure as an accessible `<svg>` element; equal figures give equal text.

    Args:
        figure: drawn and handed over within `chart_style(name)`.
        name: prefix of every id; letters, digits and hyphens.
        title: short name, read out first.
        description: what the chart shows, read out second.
    """
    buffer = io.BytesIO()
    # Figure.savefig would draw twice, the first time for the layout that this draws by anyway.
    draw = FigureCanvasSVG(figure).print_svg
    draw(buffer, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        for unwanted in element.findall(f"{_SVG}metadata") + element.findall(f"{_SVG}defs/{_SVG}style/.."):
            element.remove(unwanted)
    for element in root.iter():
        _clean(element, name)
    _describe(root, name=name, title=title, description=description)
    return ElementTree.tostring(root, encoding="unicode")


def standalone_svg(inline: str) -> str:
    """Return the text of a file for what `inline_svg` gave: on white, in ink, as a README shows it.

    >>> standalone_svg('<svg width="9pt"><path stroke="currentColor" /></svg>').splitlines()[1]
    '<rect width="100%" height="100%" fill="#ffffff" />'
    """
    opening, rest = inline.split(">", 1)
    ground = '<rect width="100%" height="100%" fill="#ffffff" />'
    space = 'xmlns="http://www.w3.org/2000/svg"'
    return f'{opening} {space} color="{INK}">\n{ground}\n{rest}\n'


def _describe(root: ElementTree.Element, *, name: str, title: str, description: str) -> None:
    root.attrib.pop("version", None)
    root.attrib.update(
        {
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-description",
            "stroke-linejoin": "round",
        }
    )
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{'title' if tag == 'title' else 'description'}"})
        element.text = text
        root.insert(position, element)


def _clean(element: ElementTree.Element, name: str) -> None:
    """Drop the namespace, spread the style over attributes, make ids the chart's own."""
    element.tag = element.tag.removeprefix(_SVG)
    attributes = {key.replace(_XLINK, ""): value for key, value in element.attrib.items()}
    attributes.update(_spread(attributes.pop("style", "")))
    for key, value in attributes.items():
        if key == "id":
            attributes[key] = f"{name}-{value}"
        elif key == "href":
            attributes[key] = f"#{name}-{value.removeprefix('#')}"
        elif key in _PLACES:
            attributes[key] = _LONG_NUMBER.sub(_rounded, value)
        else:
            attributes[key] = value.replace("url(#", f"url(#{name}-").replace(INK, "currentColor")
    element.attrib.clear()
    element.attrib.update(attributes)


def _rounded(number: re.Match[str]) -> str:
    """Write a length in points with two decimals: a hundredth of a pixel that nobody sees."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _spread(style: str) -> dict[str, str]:
    """Turn a style text into attributes; the shorthand `font` becomes size, weight and family.

    >>> _spread("fill: none; font: bold 9px 'DejaVu Sans', sans-serif")
    {'fill': 'none', 'font-size': '9px', 'font-weight': 'bold', 'font-family': 'inherit'}
    """
    declared = [part.split(":", 1) for part in style.split(";") if ":" in part]
    attributes = {key.strip(): value.strip() for key, value in declared}
    font = _FONT.fullmatch(attributes.pop("font", ""))
    if font:
        weight = {"font-weight": font["weight"]} if font["weight"] else {}
        attributes |= {"font-size": f"{font['size']}px", **weight, "font-family": font["family"]}
    if "font-family" in attributes:
        attributes["font-family"] = "inherit"
    return attributes
