"""Changes one thing in a module at a time, and says which changes no test notices.

``python -m scripts.mutants metrics/ranking guard/decide [--sample 10] [--seed 0] [--timeout 60]``

Modules are named below ``src/offmap``. Nothing is written: a forked process imports the mutant and
runs its doctests and the module's tests, but those of millions of samples, up to the first failure.
What takes too long, in seconds of the processor, is counted apart.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.machinery
import importlib.util
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
import scipy.stats  # noqa: F401  # loaded once, before the forks
import sklearn.metrics  # noqa: F401
import torch  # noqa: F401
from hypothesis import Phase, settings

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "offmap"
# The smallest sets of tests that hold a module's values, below tests/; of a folder: all others.
PYTEST = (
    "-x",
    "-q",
    "--assert=plain",  # else pytest reads the module of the doctests itself
    "-p",
    "no:cacheprovider",
    "-m",
    "not slow",
    "-k",
    "not million",
    "-Wignore:Module already imported",
)
SAME = ("acceptance", "bootstrap", "curves", "risk", "several")
ALL_OF = {"metrics": ["metrics/test_records.py"]}
TESTS = {
    "metrics/_scores": ["metrics/test_score_arrays.py", "metrics/test_acceptance.py"],
    "metrics/_thinned": ["metrics/test_curves.py"],
    "metrics/calibration": ["metrics/test_several.py"],
    "metrics/placements": ["metrics/test_intervals.py", "metrics/test_several.py"],
    "metrics/summary": ["metrics/test_detection.py"],
    "metrics/open_set_recognition": ["metrics/test_open_set.py"],
    "metrics/intervals": ["metrics/test_intervals.py", "metrics/test_several.py"],
    **{f"metrics/{n}": [f"metrics/test_{n}.py"] for n in SAME},
    "metrics/_ranking": [f"metrics/test_{n}.py" for n in ("ranking", "detection", "intervals")],
    "metrics": ["metrics/test_ranking.py", "metrics/test_detection.py", "metrics/test_curves.py"],
    "stats": ["stats"],
    "guard/_betting": ["test_monitor.py"],
    "guard/_evidence": ["test_monitor.py"],
    "guard/_ranked": ["test_certificate.py", "test_decide.py"],
    "guard/calibration": ["test_certificate.py", "test_decide.py"],
    "guard/certified": ["test_monitor.py"],
    "guard/control": ["test_check_and_control.py"],
    "guard/decide": ["test_decide.py"],
    "guard/simultaneous": ["test_certificate.py", "test_decide.py"],
    "guard": ["test_certificate.py"],
}
COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
Mutant = tuple[int, str, ast.Module]


def mutants(text: str) -> Iterator[Mutant]:
    """Every module that differs in one place: its line, what differs, the tree."""
    for i, node in enumerate(_places(ast.parse(text))):
        for k in range(len(_changes(node))):
            tree = ast.parse(text)
            place = _places(tree)[i]
            before = ast.unparse(place)
            _changes(place)[k]()
            ast.fix_missing_locations(tree)
            yield node.lineno, f"{before[:60]!r} -> {ast.unparse(place)[:60]!r}", tree


def _places(tree: ast.Module) -> list[Any]:
    """Nodes of code that counts: no annotations, no docstrings, no words of errors."""
    apart: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            apart.append(node.annotation)
        if isinstance(node, ast.FunctionDef):
            apart += [node.returns, *node.decorator_list]
        if isinstance(node, ast.Raise):
            apart.append(node.exc)
    skipped = {id(each) for top in apart if top for each in ast.walk(top)}
    return [n for n in ast.walk(tree) if id(n) not in skipped and hasattr(n, "lineno")]


def _changes(node: Any) -> list[Any]:
    """What can be changed in a node, as functions that do it."""
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in COMPARISONS:
            return [lambda: node.ops.__setitem__(0, COMPARISONS[type(op)]())]
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in OPERATORS:
            return [lambda: setattr(node, "op", OPERATORS[type(op)]())]
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=inner):
            return [lambda: _become(node, ast.BoolOp, op=ast.And(), values=[inner, inner])]
        case ast.Constant(value=bool() as value):
            return [lambda: setattr(node, "value", not value)]
        case ast.Constant(value=int() | float() as value):
            return [lambda by=by: setattr(node, "value", value + by) for by in (1, -1)]
        case ast.Return(value=value) if value is not None:
            return [lambda: setattr(node, "value", ast.Constant(None))]
        case ast.Raise() | ast.Expr(value=ast.Call()):
            return [lambda: _become(node, ast.Pass)]
        case ast.Slice(upper=end) if end is not None and not isinstance(end, ast.Constant):
            more = ast.BinOp(end, ast.Sub(), ast.Constant(1))
            return [lambda: setattr(node, "upper", more)]
    return []


def _become(node: Any, kind: type[ast.AST], **fields: Any) -> None:
    for name in node._fields:
        delattr(node, name)
    node.__class__ = kind
    node.__dict__.update(fields)


class Instead(importlib.machinery.SourceFileLoader):
    """Imports one module from a tree in the place of its file."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        super().__init__(module, str(path))
        self.code = compile(tree, str(path), "exec")

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        spec = importlib.util.spec_from_file_location
        return spec(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return self.code


def fate(name: str, tree: ast.Module, tests: list[str], timeout: float) -> str:
    """Whether the tests notice: "killed", "alive" or "late"."""
    if (child := os.fork()) == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (ceil(timeout), ceil(timeout) + 1))
        with contextlib.suppress(BaseException):
            module = "offmap." + name.replace("/", ".")
            sys.meta_path.insert(0, Instead(module, SOURCE / f"{name}.py", tree))
            paths = [str(SOURCE / f"{name}.py"), *(str(ROOT / "tests" / test) for test in tests)]
            os._exit(pytest.main([*PYTEST, *paths]))
        os._exit(99)
    end = time.monotonic() + 20 * timeout  # for what waits and computes nothing
    while time.monotonic() < end:
        if (done := os.waitpid(child, os.WNOHANG))[0]:
            late = os.WIFSIGNALED(done[1]) and os.WTERMSIG(done[1]) == signal.SIGXCPU
            return "late" if late else "killed" if done[1] else "alive"
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "late"


def main() -> None:
    """Print the survivors of each module, and the share that was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--sample", type=int, default=0, help="mutants a module; 0 is all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60)
    options = parser.parse_args()
    # The same examples for every mutant; to shrink one that fails takes longer than to find it.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", derandomize=True, deadline=None, phases=phases)
    settings.load_profile("mutants")
    total: Counter[str] = Counter()
    passed: set[tuple[str, ...]] = set()
    for name in options.modules:
        folder = name.partition("/")[0]
        tests = [*(TESTS.get(name) or TESTS[folder]), *ALL_OF.get(folder, [])]
        text = (SOURCE / f"{name}.py").read_text()
        known = tuple(tests) in passed  # the same tests hold several modules
        if not known and fate(name, ast.parse(text), tests, 5 * options.timeout) != "alive":
            raise SystemExit(f"{name}: the tests fail as it is, so no mutant shows anything")
        passed.add(tuple(tests))
        every = list(mutants(text))
        if options.sample:
            every = random.Random(options.seed).sample(every, min(options.sample, len(every)))
        fates: Counter[str] = Counter()
        for line, what, tree in every:
            fates[result := fate(name, tree, tests, options.timeout)] += 1
            if result != "killed":
                print(f"{name}:{line}: {result}: {what}", flush=True)
        print(f"{name}: {dict(fates)}", flush=True)
        total += fates
    print(f"all: {dict(total)}")


if __name__ == "__main__":
    main()
