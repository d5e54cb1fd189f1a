"""XML of annotation programs: parsed without entities, numbers in any locale, written as clean UTF-8."""

import re
from xml.etree.ElementTree import Element, ParseError, indent, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from wsi_kd.core.errors import BadInput

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow (section 2.2, production 2)."""


def parse_xml(content: bytes, *, where: str) -> Element:
    """Parse XML and return its root element.

    Raises:
        BadInput: not well formed, or with a document type that declares entities: none is ever expanded.
    """
    try:
        root: Element = fromstring(content)
    except DefusedXmlException:
        raise BadInput(
            f"{where}: declares XML entities, which are refused; export it from its program again"
        ) from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise BadInput(f"{where}: not valid XML ({error}); export the annotations again") from None
    return root


def xml_number(text: str | None, *, where: str) -> float:
    """Read a number; programs write the decimal comma of the user's locale.

    Raises:
        BadInput: naming `where`.
    """
    try:
        return float((text or "").replace(",", "."))
    except ValueError:
        raise BadInput(f"{where}: {text!r}; expected a number") from None


def xml_document(root: Element) -> str:
    """Return an indented XML document with its declaration; characters that XML cannot hold are replaced."""
    for element in root.iter():
        element.text = None if element.text is None else _clean(element.text)
        for key, value in element.attrib.items():
            element.attrib[key] = _clean(value)
    indent(root, space="\t")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _clean(text: str) -> str:
    return _FORBIDDEN.sub(_REPLACEMENT, text)
