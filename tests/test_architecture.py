"""Who imports whom in the package: one direction, from the layers down to the
geometry."""

import ast
from pathlib import Path

import scipyconv
from scipyconv.engines.choice import ENGINES

PACKAGE = Path(scipyconv.__file__).parent

#: What each module may import of the package itself: a line for each, lowest first.
MAY_IMPORT = {
    "geometry": set(),
    "dtypes": set(),
    "internals": set(),
    "draw": set(),
    "bridge": {"dtypes"},
    "engines": set(),
    "engines.threads": set(),
    "engines.zeros": {"geometry"},
    "engines.windows": {"geometry"},
    **{
        f"engines.{name}": {
            "engines.threads",
            "engines.windows",
            "engines.zeros",
            "geometry",
        }
        for name in ENGINES
    },
    "engines.choice": {"engines", "geometry"},
    "method": {"engines.choice"},
    "operator": {"bridge", "dtypes", "engines", "geometry", "internals", "method"},
    "short_way": {
        "bridge",
        "dtypes",
        "engines.choice",
        "geometry",
        "internals",
        "method",
        "operator",
    },
    "arguments": {"dtypes", "geometry"},
    "modes": {"geometry"},
    "functional": {
        "arguments",
        "dtypes",
        "engines.choice",
        "method",
        "modes",
        "operator",
        "short_way",
    },
    "nn": {"arguments", "functional", "method", "modes"},
    "convert": {"functional", "method", "nn"},
    "textbook": set(),
    "textbook.checks": {"arguments"},
    "textbook.single_channel": {"bridge", "dtypes", "textbook.checks"},
    "__init__": {"convert", "functional", "nn", "textbook"},
    "check": {"draw", "engines", "geometry"},
    "__main__": {"__init__", "check"},
    "benchmark": {"__init__", "check", "functional"},
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
    if parts[:1] == ["check"]:  # many rooms that import each other, counted as one
        return "check"
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.is_dir() or path.with_suffix(".py").exists():
            return ".".join(parts)
        parts = parts[:-1]
    return "__init__"


def modules():
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] == "check":
            yield "check", path
            continue
        yield (
            ".".join(
                parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
            ),
            path,
        )


def allowed(name):
    """What a module may import; a folder's modules, if it names the folder."""
    package = name.rpartition(".")[0]
    return {
        each
        for each, _ in modules()
        for one in MAY_IMPORT[name]
        if each in (one, package) or each.startswith(f"{one}.")
    }


def test_every_module_imports_what_it_may():
    assert {name for name, _ in modules()} == set(MAY_IMPORT)
    wrong = {
        name: imported(path) - allowed(name) - {name, f"{name}.{path.stem}"}
        for name, path in modules()
    }
    own = {
        name: {each for each in found if not each.startswith(f"{name}.")}
        for name, found in wrong.items()
    }
    assert not any(own.values()), own


def test_nobody_imports_in_a_circle():
    order = [*MAY_IMPORT]
    for name, lower in MAY_IMPORT.items():
        for one in lower - {"__init__"}:
            assert order.index(one) < order.index(name), (one, name)
