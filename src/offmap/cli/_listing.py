"""The texts of ``offmap list``."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

from offmap import data, networks
from offmap._utils.arguments import did_you_mean
from offmap._utils.table import filled, of_words
from offmap.detectors import cost, entries, passes, why_not_exported
from offmap.errors import UnknownNameError
from offmap.training import RECIPES, recipe

_EMBEDDED = [f"embedded:{name}" for name in data.EMBEDDED]
_NOISE = [f"noise:{kind}" for kind in data.NOISE_KINDS]
_CORRUPTIONS = [f"corrupt:{kind}" for kind in data.CORRUPTIONS]
_WORSE = ": the ID images made worse, of severity 1 to 5: "
_ROLE = re.compile(r":\w+:`~?([^`]*)`")
# Sections of a docstring.
_SECTIONS = ("Args", "Attributes", "Raises", "References", "Returns", "Examples", "Example")


_DETECTORS = (
    "Detectors by what they read. Cost beyond the forward pass: sums with what was learned, a bank "
    "of kept samples, layers, further passes. Exports: into one graph, without this library."
)


def everything() -> str:
    """All names, by kind, in lines no wider than the terminal."""
    tables = []
    for family, of in groupby(entries(), key=lambda entry: entry.family):
        facts = [_facts(entry) for entry in of]
        rows = [list(each.values()) for each in facts]
        tables.append(f"\n{family}:\n{of_words(rows, list(facts[0]), indent='  ')}")
    recipes = ", ".join(f"{name} ({', '.join(of)})" for name, (_, of) in RECIPES.items())
    trained = ", ".join(f"{networks.zoo.PREFIX}{name}" for name in networks.zoo.names())
    others = [
        "\nData sets (in $OFFMAP_DATA/NAME/SPLIT.parquet; * also from the hub):",
        *(f"  {name:<20} {_set_line(name)}" for name in data.named_sets()),
        "\nEmbedded: " + ", ".join(_EMBEDDED),
        "Noise: " + ", ".join(_NOISE),
        "ID made worse: " + ", ".join(_CORRUPTIONS),
        "\nNetworks (with arguments as in 'wrn40_2(dropout=0.3)'; or timm:NAME, hf:OWNER/NAME, "
        "package.module:factory):",
        *(f"  {name:<20} {_first_line(of)}" for name, of in networks.factories().items()),
        f"\nRecipes (budgets): {recipes}",
        f"\nTrained: {trained or 'none at hand, in $OFFMAP_ZOO or zoo/'}",
        "\n`offmap list NAME` shows all of one.",
    ]
    return "\n".join([filled(_DETECTORS), *tables, filled("\n".join(others))])


def one(name: str) -> str:
    """The description of a name, which may be that of a recipe, a network and a data set.

    Raises:
        UnknownNameError: there is nothing of that name.
    """
    index: list[tuple[str, Callable[[], str]]] = [
        *((f"{networks.zoo.PREFIX}{n}", partial(_card, n)) for n in networks.zoo.names()),
        *((n, partial(_recipe, n)) for n in RECIPES),
        *((n, partial(str, f"{n}: images that need no download")) for n in _EMBEDDED),
        *((n, partial(str, f"{n}: drawn at the shape of the ID images")) for n in _NOISE),
        *((n, partial(str, f"{n}{_WORSE}{n}:3")) for n in _CORRUPTIONS),
        *((n, partial(str, f"{n}: {_set_line(n)}")) for n in data.named_sets()),
        *((n, partial(_network, n, factory)) for n, factory in networks.factories().items()),
        *((n, partial(_detector, e)) for e in entries() for n in (e.name, *e.aliases)),
    ]
    matches = [show for each, show in index if each == name]
    matches = matches or [show for each, show in index if _key(each) == _key(name)]
    if not matches:
        hint = did_you_mean(name, [each for each, _ in index])
        raise UnknownNameError(f"nothing is called {name!r}: {hint}`offmap list` names everything")
    return "\n\n".join(dict.fromkeys(show() for show in matches))


def _key(name: str) -> str:
    return re.sub(r"[-_]", "", name.lower())


def _facts(entry: Any) -> dict[str, str]:
    """The cells of a detector in tables, by heading."""
    method = entry.method.default()
    return {
        "name": ", ".join((entry.name, *entry.aliases)),
        "needs": method.needs.words.replace("+", ", "),
        "cost": cost(method),
        "exports": "no" if why_not_exported(method) else "yes",
        "year": str(method.year or "-"),
        "suits": method.suits,
    }


def _detector(entry: Any) -> str:
    method, facts = entry.method.default(), _facts(entry)
    counts = [passes(method, source) for source in ("train", "calibration")]
    lines = [
        f"{entry.name}: {_first_line(entry.method)}",
        *([f"also called {', '.join(entry.aliases)}"] if entry.aliases else []),
        f"needs {method.needs.words}; passes over training data {counts[0]}, over calibration data "
        f"{counts[1]}",
        "; ".join(f"{name} {facts[name]}" for name in ("cost", "exports", "year", "suits")),
        f"\n{entry.method.__name__}{_signature(entry.method)}",
    ]
    return "\n".join([*lines, *_documentation(entry.method)])


def _network(name: str, factory: Callable[..., Any]) -> str:
    return "\n".join([f"{name}{_signature(factory)}", *_documentation(factory, first=True)])


def _recipe(name: str) -> str:
    _, budgets = RECIPES[name]
    content = json.dumps(recipe(name).record(), indent=1)
    return f"{name}: budgets {', '.join(budgets)}; for cpu:\n{content}"


def _card(name: str) -> str:
    card = networks.zoo.card(name)
    title = f"{networks.zoo.PREFIX}{name}: {card.network}, accuracy {card.accuracy:.2%}"
    return f"{title}\ntrained by: {card.command}"


def _set_line(name: str) -> str:
    entry = data.named_sets()[name]
    return f"{entry.title}{'' if entry.repository is None else ' *'}"


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _signature(thing: Any) -> str:
    """The arguments with their defaults, without types."""
    parameters = inspect.signature(thing).parameters.values()
    arguments = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(arguments))


def _documentation(thing: Any, *, first: bool = False) -> list[str]:
    """Formula, explanation, arguments and references of a docstring."""
    summary, _, text = (inspect.getdoc(thing) or "").partition("\n")
    heads = "|".join(_SECTIONS)
    body, *parts = re.split(rf"^({heads}):\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    paragraphs = [summary] if first else []
    paragraphs += [body.replace(".. math:: ", "  ").strip("\n")]
    paragraphs += [f"{h}:\n{sections[h].rstrip()}" for h in ("Args", "References") if h in sections]
    return ["\n" + _ROLE.sub(r"\1", text) for text in paragraphs if text]
