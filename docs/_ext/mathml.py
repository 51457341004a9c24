"""Formulas as MathML, written into the page: a reader's browser loads nothing for them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Known commands that the converter leaves as they stand, as brackets behind a size.
_LEFT = {r"\|": "‖", r"\langle": "⟨", r"\rangle": "⟩", r"\arg": "arg", r"\_": "_"}

_CHILDREN = {
    **dict.fromkeys(("mfrac", "msub", "msup", "mover", "munder", "mroot"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}


def setup(app: Any) -> dict[str, Any]:
    """Enter the renderer, which ``html_math_renderer = "mathml"`` chooses."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(latex: str, display: str) -> str:
    """A formula as MathML.

    Raises:
        ValueError: it cannot be rendered.
    """
    try:
        text = convert(latex, display=display)
    except Exception as error:  # each mistake has a class of its own, without a common base
        raise ValueError(f"{type(error).__name__} {error}") from error
    for command, sign in _LEFT.items():
        text = text.replace(command, sign)
    if "\\" in text:  # the converter leaves what it does not know as it stands
        raise ValueError("it holds a command that is not known")
    _check_whole(text)
    return text


def _check_whole(text: str) -> None:
    """The converter does not miss an argument that is not there."""
    for element in ElementTree.fromstring(text).iter():
        kind = element.tag.rpartition("}")[2]
        if len(element) != _CHILDREN.get(kind, len(element)):
            raise ValueError(f"an argument is missing, of {kind}")


def _rendered(node: nodes.Element, display: str) -> str:
    latex = node.astext()
    try:
        return mathml(latex, display)
    except ValueError as error:
        logger.warning("formula %r cannot be rendered: %s", latex, error, location=node)
        return f"<code>{latex}</code>"


def _inline(writer: Any, node: nodes.Element) -> None:
    writer.body.append(_rendered(node, "inline"))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.Element) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    writer.body.append(_rendered(node, "block"))
    writer.body.append("</div>\n")
    raise nodes.SkipNode
