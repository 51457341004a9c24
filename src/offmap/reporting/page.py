"""A report as one HTML file that loads nothing: its style, script, data and pictures are inside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

# What would end the script element, or be read as HTML, inside of JSON.
_ESCAPES = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def page(title: str, sections: Sequence[Any], data: Any) -> str:
    """The file's text.

    Args:
        title: of the report.
        sections: of it, as :class:`Section`.
        data: plain values for the script.
    """
    style, code = _package_text("report.css"), script()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    text = environment.from_string(_package_text("report.html")).render(
        title=title,
        sections=sections,
        data=Markup(in_script(data)),
        style=Markup(style),
        script=Markup(code),
        policy=policy(style, code),
        # Each name once for a run of it, and how long the run is.
        runs=lambda names: [(name, len(list(run))) for name, run in groupby(names)],
        version=version("offmap"),
    )
    # Names of files need not be UTF-8, and the page is: in its JSON this is an escape as well.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def script() -> str:
    """The page's script: the drawings of all reports, and the slider of an evaluation."""
    return "\n".join(_package_text(f"{name}.js") for name in ("drawings", "evaluation", "report"))


def policy(style: str, script: str) -> str:
    """A content-security policy: nothing is loaded, and nothing runs but this script."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def in_script(data: Any) -> str:
    r"""JSON that can stand in a script element, whatever its texts hold; NaN is refused.

    >>> print(in_script("</script>"))
    "\u003c/script\u003e"
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPES)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _package_text(name: str) -> str:
    return (files("offmap.reporting") / name).read_text(encoding="utf-8")
