"""Change one thing in the package, run the tests that cover it, and say what nobody noticed.

    python tools/mutants.py --number 150 --seed 0            # a sample over all targets
    python tools/mutants.py --only _local.py:61:1 ...        # the same ones again
    python tools/mutants.py --files aggregation.py losses

Where the tests that cover a file notice nothing, more are run. Every mutant is a process forked
from one that has torch at hand already, with the changed module in memory: no file is written to.
A survivor is a gap in the tests, or means the same as the original.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.machinery
import importlib.util
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "skfedfocal"
ROUNDS = ["rounds", "cohorts", "early_stopping", "traffic", "partial_fit", "checkpoint"]
# What covers what, the quick ones first; the first part of a path that fits counts.
COVER = {
    "losses/": ["losses", "check_loss"],
    "aggregation/": ["krum", "aggregation", "disclosure"],
    "selection.py": ["selection", "cohorts"],
    "_focus.py": ["aggregation"],
    "_class_weight.py": ["class_weight", "partial_fit", "rounds", "weights"],
    "_local.py": ["rounds", "weights"],
    "_data/clients.py": ["pieces", "clients", "weights"],
    "_data/blocks.py": ["batches", "private_steps"],
    "engines/_batches.py": ["batches", "engines", "weights"],
    "_training/personal.py": ["personalized"],
    "_training/private.py": ["private_released", "private_training", "private_beside"],
    "_training/failures.py": ["failures"],
    "_training/search.py": ["search", "classifier_cv"],
    "_training/prior.py": ["partial_fit", "traffic"],
    "_training/tally.py": ["aggregation", "traffic"],
    "_training/checkpoint.py": ["checkpoint"],
    "_training/parts.py": ["disclosure", "search", "private_beside"],
    "_training/": [*ROUNDS, "stages"],
}
# What else may notice: tried where the quick ones did not.
WIDE = [
    *["disclosure", "failures", "secure_sum_refusals", "secure_training", "bad_input", "recall"],
    *["private_secure", "private_beside", "fitted_state", "personalized", "classifier_cv"],
]
TURNS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Other nodes to put in the place of one."""
    other = copy.deepcopy(node)
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in TURNS:
        other.op = TURNS[type(node.op)]()  # type: ignore[attr-defined]
        yield other
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in TURNS:
        other.ops[0] = TURNS[type(node.ops[0])]()  # type: ignore[attr-defined]
        yield other
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        other.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
        yield other
    elif isinstance(node, ast.Expr | ast.AugAssign | ast.Raise):
        yield ast.Pass()


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that may be changed: not texts, types, bounds of parameters nor what is raised."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "exc", "type_params"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or _is_declaration(node):
                continue
            yield node
            yield from places(node)


def _is_declaration(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", getattr(node.func, "id", "")) in ("warn", "dataclass")
    names = [getattr(t, "id", "") for t in getattr(node, "targets", [])]
    return isinstance(node, ast.Assert) or "_parameter_constraints" in names


def mutants(path: Path) -> dict[str, tuple[int, ast.AST, str]]:
    """What can be changed in a module, by file, line and number in the line.

    Each is the place among the nodes of the tree, the node to put there, and what that is in words.
    """
    found, in_line = {}, {}
    for i, node in enumerate(places(ast.parse(path.read_text()))):
        for change in changes(node):
            text = f"{ast.unparse(node).splitlines()[0]}  →  {ast.unparse(change).splitlines()[0]}"
            line = getattr(node, "lineno", 0)
            in_line[line] = in_line.get(line, 0) + 1
            found[f"{path.relative_to(PACKAGE)}:{line}:{in_line[line]}"] = i, change, text
    return found


def changed(path: Path, place: int, change: ast.AST) -> ast.AST:
    """The tree of a module with another node at a place."""
    tree = ast.parse(path.read_text())
    old = list(places(tree))[place]
    _replace(tree, old, ast.copy_location(change, old))
    return ast.fix_missing_locations(tree)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list):
                value[:] = [new if item is old else item for item in value]


class Changed(importlib.machinery.SourceFileLoader):
    """Loads a changed tree in the place of one module, and finds it."""

    def __init__(self, path: Path, tree: ast.AST):
        parts = path.relative_to(ROOT).with_suffix("").parts
        super().__init__(".".join(parts).removesuffix(".__init__"), str(path))
        self.tree = tree

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str):
        return compile(self.tree, self.path, "exec")  # type: ignore[call-overload]


def survives(path: Path, tree: ast.AST, tests: list[str], limit: float) -> bool:
    """Whether all tests pass with the change; one that takes too much CPU time fails."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, resource.RLIM_INFINITY))
        sys.meta_path.insert(0, Changed(path, tree))  # type: ignore[arg-type]
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]) != 0))
    end = time.monotonic() + 10 * limit  # where it waits for what does not come
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def sources(name: str) -> list[Path]:
    """The modules that a file or folder of the package is; one that is gone hides no gap."""
    found = [p for p in (PACKAGE / name, *(PACKAGE / name).glob("**/*.py")) if p.is_file()]
    return found or sys.exit(f"{name} is neither a file nor a folder of the package")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300.0, help="CPU seconds for one's tests")
    parser.add_argument("--files", nargs="*", default=list(COVER), help="files or folders")
    parser.add_argument("--only", nargs="*", help="names of mutants")
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.model_selection  # noqa: F401
    import torch

    torch.set_num_threads(1)
    files = sorted({path for name in args.files for path in sources(name)})
    every = {name: (path, *made) for path in files for name, made in mutants(path).items()}
    number = min(args.number, len(every))
    names = args.only or random.Random(args.seed).sample(sorted(every), number)
    n_survived, sound, more = 0, set(), [f"tests/test_{c}.py" for c in WIDE]
    for i, name in enumerate(names, 1):
        path, place, change, text = every[name]
        cover = next(tests for part, tests in COVER.items() if name.startswith(part))
        tests = [f"tests/test_{c}.py" for c in cover]
        for some in (tests, more):
            if tuple(some) in sound:  # else all would be taken for killed
                continue
            if not survives(path, ast.parse(path.read_text()), some, 3 * args.limit):
                sys.exit(f"{some} fail without any change")
            sound.add(tuple(some))
        alive = all(
            survives(path, changed(path, place, change), t, args.limit) for t in (tests, more)
        )
        n_survived += alive
        print(f"{i:4d} {'SURVIVED' if alive else 'killed  '} {name}  {text}", flush=True)
    print(f"{n_survived} of {len(names)} mutants survived, out of {len(every)} that there are")


if __name__ == "__main__":
    main()
