"""How many small bugs the quick tests find: `python tests/mutations.py` (by hand; an hour on two cores).

It draws random mutants of the installed package, each with one change: a comparison, a constant, an operator, a dropped
statement or branch, two swapped arguments. For each it runs the quick tests of that room, those of the mutated file
first, until one fails. It prints the mutants that no test has found, and the share of those found.

The seed draws the same mutants as long as the package is the same. `--only 3 17` repeats two of them.
"""

import argparse
import ast
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGES = ("bayesian_text_classification", "bayesian_text_classification_command")
LONGEST = 900  # seconds; a mutant that runs for longer is found: it hangs
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
            ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
             ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
             ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitXor: ast.BitOr}  # fmt: skip
DROPPED = (ast.Assign, ast.AugAssign, ast.Expr, ast.Raise, ast.Return, ast.Delete, ast.Continue, ast.Break)


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: Path below the folder that holds the packages.
        line: Number of its first line.
        kind: What was changed.
        old: The code there.
        new: What replaces it.
        source: The whole file, changed.
    """

    file: str
    line: int
    kind: str
    old: str
    new: str
    source: str

    def __str__(self):
        old, new = (re.sub(r"\s+", " ", code) for code in (self.old, self.new))
        return f"{self.file}:{self.line}: {self.kind}: {old[:90]}  ->  {new[:90]}"


def changes(node):
    """(kind, code in place of the node) for each change that it allows."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            ops = [*node.ops[:i], COMPARED[type(operator)](), *node.ops[i + 1 :]]
            yield "comparison", f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        yield "constant", repr(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield "operator", f"({ast.unparse(ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right))})"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "operator", f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield "operator", f"({ast.unparse(node.operand)})"
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield "branch", "True"
        yield "branch", "False"
    elif isinstance(node, DROPPED):
        yield "dropped line", "pass"
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        first, second, *rest = node.args
        if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
            yield "swapped arguments", ast.unparse(ast.Call(node.func, [second, first, *rest], node.keywords))


def nodes(tree):
    """The nodes that run: no docstrings, annotations, f-strings (before 3.12 they have no place) or `__all__`."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    if isinstance(tree, ast.Assign) and ast.unparse(tree.targets[0]) == "__all__":
        return
    yield tree
    for name, child in ast.iter_fields(tree):
        if name in ("annotation", "returns", "bases") or isinstance(tree, ast.JoinedStr):
            continue
        for one in child if isinstance(child, list) else [child]:
            if isinstance(one, ast.AST):
                yield from nodes(one)


def mutants_of(root, file):
    """Every mutant of a file that Python can compile."""
    source = (root / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in nodes(ast.parse(source)):
        for kind, new in changes(node):
            place = node.test if kind == "branch" else node
            begin = starts[place.lineno - 1] + place.col_offset
            end = starts[place.end_lineno - 1] + place.end_col_offset
            changed = (source[:begin] + new.encode() + source[end:]).decode()
            try:
                compile(changed, file, "exec")
            except SyntaxError:
                continue
            if ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)):
                yield Mutant(file, place.lineno, kind, source[begin:end].decode(), new, changed)


def drawn(root, count, seed):
    """That many mutants, spread over the files by their number of possible changes."""
    files = sorted(str(path.relative_to(root)) for package in PACKAGES for path in (root / package).rglob("*.py"))
    places = [file for file in files for node in nodes(ast.parse((root / file).read_bytes())) for _ in changes(node)]
    chosen = Counter(random.Random(seed).sample(places, count))
    for file, number in sorted(chosen.items()):
        yield from sorted(random.Random(f"{seed} {file}").sample(list(mutants_of(root, file)), number), key=str)


def tests_of(file):
    """The test files of the room of a file of the package, those of the same name first."""
    top, *rest = Path(file).parts
    if top == PACKAGES[1]:
        folder, pattern = TESTS / top, "**/test_*.py"
    elif rest[0] in ("metrics", "spaces"):
        folder, pattern = TESTS / rest[0], "**/test_*.py"
    elif len(rest) == 1 or rest[0] == "embedded":
        folder, pattern = TESTS / top, "test_*.py"
    else:
        folder, pattern = TESTS / top / rest[0], "**/test_*.py"
    name = re.sub(r"[^a-z]", "", Path(file).stem)
    return sorted(folder.glob(pattern), key=lambda path: (name not in re.sub(r"[^a-z]", "", path.stem), path))


def run(root, file, log):
    """Exit status of the quick tests of a file's room, in a fork of this process, with the packages in `root`."""
    child = os.fork()
    if child == 0:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["PYTHONPATH"] = str(root)
        sys.path.insert(0, str(root))
        os._exit(_pytest(["-q", "-x", "--tb=line", "-p", "no:cacheprovider", *map(str, tests_of(file))]))
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    for _ in range(2):  # what the tests have started, too
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            break
    if not done:
        os.waitpid(child, 0)
        return "hangs"
    return os.waitstatus_to_exitcode(status)


def _pytest(arguments):
    import pytest

    try:
        return int(pytest.main(arguments))
    except BaseException:
        return 70


def tried(mutant, origin):
    """Run the tests on a copy of the packages with this change. Returns None, or the test that found it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for package in PACKAGES:
            shutil.copytree(origin / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant.source is not None:
            (root / mutant.file).write_text(mutant.source, encoding="utf-8")
        status = run(root, mutant.file, root / "log")
        said = (root / "log").read_text(encoding="utf-8", errors="replace")
    if status == 0:
        return None
    found = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return found[0] if found else f"status {status}: {said[-300:]}"


def main():
    """Draw, run, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="how many mutants (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="only these of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    options = parser.parse_args()
    sys.path.remove(str(TESTS))  # it has folders with the names of the packages
    origin = Path(find_spec(PACKAGES[0]).origin).parents[1]
    mutants = dict(enumerate(drawn(origin, options.count, options.seed)))
    if options.only:
        mutants = {number: mutants[number] for number in options.only}
    if options.list:
        print(*(f"{number:3d} {mutant}" for number, mutant in mutants.items()), sep="\n")
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    for library in ("datasets", "evaluate", "scipy.stats", "sklearn.metrics", "torch", "transformers.pipelines"):
        importlib.import_module(library)  # once; the runs are forks of this process
    rooms = {tuple(sorted(tests_of(mutant.file))): mutant for mutant in mutants.values()}
    with ThreadPoolExecutor(options.jobs) as pool:
        plain = [Mutant(mutant.file, 0, "nothing", "", "", None) for mutant in rooms.values()]
        for mutant, failed in zip(plain, pool.map(lambda one: tried(one, origin), plain), strict=True):
            assert failed is None, f"without a change, {failed} fails (room of {mutant.file})"
        print(f"all tests pass without a change ({len(rooms)} rooms)", flush=True)
        found = pool.map(lambda one: tried(one, origin), mutants.values())
        alive = 0
        for (number, mutant), test in zip(mutants.items(), found, strict=True):
            alive += test is None
            print(f"{number:3d} {'LIVES' if test is None else 'found'} {mutant}  {test or ''}", flush=True)
    print(f"{len(mutants) - alive} of {len(mutants)} found ({1 - alive / len(mutants):.1%})")


if __name__ == "__main__":
    main()
