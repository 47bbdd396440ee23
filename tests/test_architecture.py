"""Who imports whom in the package: one direction, from the layers down to the geometry."""

import ast
from pathlib import Path

import scipyconv

PACKAGE = Path(scipyconv.__file__).parent

#: What each module may import of the package itself, and nothing else. Within `check`
#: a module may import any other.
MAY_IMPORT = {
    "__init__": {"convert", "functional", "nn", "single_channel"},
    "__main__": {"__init__", "check.command"},
    "arguments": set(),
    "autograd": {"engines.choice", "engines.threads"},
    "benchmark": {"__init__", "functional"},
    "check.oracle": {"engines.direct"},
    "check.picture": {"draw"},
    "convert": {"functional", "nn"},
    "draw": set(),
    "engines": set(),
    "engines.border": set(),
    "engines.choice": {"engines.border", "engines.direct", "engines.fft", "engines.matmul"},
    "engines.direct": {"engines.border"},
    "engines.fft": {"engines.border", "engines.threads"},
    "engines.matmul": {"engines.border", "engines.threads", "engines.windows"},
    "engines.threads": set(),
    "engines.windows": {"engines.border"},
    "functional": {"arguments", "autograd", "engines.choice", "geometry", "padding"},
    "geometry": set(),
    "nn": {"arguments", "functional", "geometry", "padding"},
    "padding": {"geometry"},
    "single_channel": {"arguments"},
}


def imported(path):
    """The modules of the package that a file imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "scipyconv":
                found.add(module_of(parts[1:]))
    return found


def module_of(parts):
    """The longest beginning of a dotted name that is a module."""
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.is_dir() or path.with_suffix(".py").exists():
            return ".".join(parts)
        parts = parts[:-1]
    return "__init__"


def modules():
    """Each module, with what it imports."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = imported(path)
    return found


def of_check(name):
    return name.split(".")[0] == "check"


def test_every_module_imports_what_it_may():
    found = {
        name: {each for each in names if not (of_check(name) and of_check(each))}
        for name, names in modules().items()
    }
    outside = {name: names for name, names in found.items() if names or not of_check(name)}
    assert outside == MAY_IMPORT
