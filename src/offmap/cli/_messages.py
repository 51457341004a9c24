"""Messages of the library in the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import typer

# Phrases about Python, in the words of the commands; longest first.
_PHRASES = {
    r"call fit again, then calibrate": "run `offmap fit` again, then `offmap calibrate`",
    r"call fit, then calibrate": "run `offmap calibrate`",
    r"call fit before saving|call fit\(batches\) first": "run `offmap fit` first",
    r"give calibration= to fit, or call calibrate on the guard": "run `offmap calibrate`",
    r"call calibrate": "run `offmap calibrate`",
    r"give head=offmap\.Head\(weight, bias\)": "name it by --head",
    r"by head=": "by --head",
    r"outputs='(\w+)'": r"--outputs \1",
    r"was made with model=": "was made with --model ",
    r"device=(\S+): this machine": r"--device \1: this machine",
    r"use precision='fp32'": "use --precision fp32",
    r"were given: ood=\{.*?\}, \.\.\.\}": "were given: give --near or --far",
    r"give them as a mapping by name": "name each once",
    r"give that one, or strict=False if you know that they are the same in effect": (
        "give that one by --model and --weights"
    ),
    r"name it in calibrate, alarm_rate=\[\.\.\.\]": "name it in `offmap calibrate --alarm-rate`",
    r"join them by pool=True": "join them by --pool",
    r"give shape \(c, h, w\)": "give --size and --channels",
    r"evaluate says it for given ones": "`offmap bench` says it for given ones",
    r"offmap\.networks\.AnchorHead": "`offmap list anchor_head`",
    r"offmap\.networks\.Ensemble": "`offmap list ensemble`",
}
# By command, where an argument of the library is an option of another name.
_OTHER_NAMES = {
    "fit": {"train": "--data"},
    "calibrate": {"calibration": "--data"},
}
_KEYWORD = re.compile(r"(?<![\w.-])(?P<name>[a-z_]{2,})=(?=[\s,;:.)]|$)")
_UNDERSCORED = re.compile(r"(?<![\w.-])[a-z]+(?:_[a-z]+)+(?![\w=(:.])")

_options: ContextVar[Mapping[str, str]] = ContextVar("options")


def speak_as(command: Any) -> None:
    """From here on, name the options of this command in messages."""
    options = {p.name: p.opts[0] for p in command.params if p.param_type_name == "option"}
    speak(options | _OTHER_NAMES.get(command.name, {}))


def speak(words: Mapping[str, str]) -> None:
    """The same, with the options by the names of arguments."""
    _options.set(words)


def spoken() -> Mapping[str, str]:
    """The words in use, for another process."""
    return dict(_options.get({}))


def in_words(text: str) -> str:
    """A message of the library, with options and commands where it names arguments and methods.

    >>> in_words("this guard has no threshold yet: call fit, then calibrate")
    'this guard has no threshold yet: run `offmap calibrate`'
    """
    for phrase, words in _PHRASES.items():
        text = re.sub(phrase, words, text)
    options = _options.get({})
    text = _KEYWORD.sub(lambda m: options.get(m["name"], m[0]), text)
    return _UNDERSCORED.sub(lambda m: options.get(m[0], m[0]), text)


def words_on_network(error: Exception) -> str | None:
    """A message on an error inside a network: its inputs, the options for them, and the error.

    ``None`` for any other error.
    """
    from offmap._utils.hub import first_line
    from offmap._utils.refused import failed_on

    if (inputs := failed_on(error)) is None:
        return None
    options = _options.get({})
    own = [options[name] for name in ("size", "channels", "normalization") if name in options]
    decisive = f" {', '.join(own)} decide on it;" if own else ""
    message = f"{type(error).__name__}: {first_line(error)}"
    return f"{inputs}{decisive} --debug shows where it fails. {message}"


def say(text: str, *, err: bool = False) -> None:
    """Print a message of the library."""
    typer.echo(in_words(text), err=err)
