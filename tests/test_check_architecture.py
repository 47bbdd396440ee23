"""The house of the checker: who may import what, no circles, and short functions."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import scipyconv.check

PACKAGE = Path(scipyconv.check.__file__).parent
ROOT = PACKAGE.parent.parent
FILES = sorted(PACKAGE.rglob("*.py"))


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imports(path):
    """What a file imports at once: not in functions, and not for types alone."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def users(name):
    """The modules in which some other is imported, anywhere."""
    return {
        module(path).removeprefix("scipyconv.check.")
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and name in ast.unparse(node)
    }


def test_only_the_oracle_knows_the_engines_and_only_the_picture_draws():
    assert users("scipyconv.engines") == {"oracle"}
    assert users("scipyconv.draw") == {"picture"}
    assert users("matplotlib") == set()
    assert users("pytest") == set()


def test_modules_are_imported_in_no_circle():
    graph = {name: imports(path) & MODULES.keys() for name, path in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


def test_the_oracle_has_no_torch():
    assert (
        "torch"
        not in ast.unparse(
            ast.parse(MODULES["scipyconv.check.oracle"].read_text("utf-8"))
        )
        .replace("torch's", "")
        .split('"""')[2]
    )


def functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, node


def code_lines(node):
    """The lines of a function's body, without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_functions_are_short():
    longest = {
        f"{path.name}:{node.name}": code_lines(node) for path, node in functions()
    }
    assert {
        name: lines
        for name, lines in longest.items()
        if lines > 30 and name != "command.py:_parser"
    } == {}  # a list of arguments


def test_files_are_short():
    lines = {module(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 580} == {}


def test_no_torch_function_is_looked_up_late_where_results_are_compared():
    """A function that patches torch must not change what a comparison does."""
    text = MODULES["scipyconv.check.compare"].read_text("utf-8")
    for name in ("torch.equal", "torch.allclose", "np.array_equal", "np.allclose"):
        assert name not in text
