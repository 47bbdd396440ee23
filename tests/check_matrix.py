"""Which check catches which wrong convolution: the table, as data.

`python tests/check_matrix.py` makes the table anew and writes it where the site and
the tests find it: the site shows it, and the tests make each of its rows again.

Ours asks all probes at a few of the quick level's cases, so that the table is made in a
minute or two: four for every mutant, and those that its row names, in the dtypes that
its row names. By default the quick level asks at all its cases in float32, and at a few
in the other dtypes, so a mistake of another dtype may need `dtypes` to be seen.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from check_mutant import Mutant
from check_mutants import MUTANTS
from check_rivals import RIVALS, caught
from tqdm import tqdm

from scipyconv.check import Report, cases, check_convolution
from scipyconv.check.probes import PROBES
from scipyconv.check.state import State

_DOCS = Path(__file__).parent.parent / "docs"
#: Where the table is, as data and as the page shows it.
TABLE = _DOCS / "practice/mutants.json"
SHOWN = _DOCS / "_site/mutants.txt"

OURS = "ours"
CASES = ("one channel", "unbatched", "stride with a remainder", "groups with stride")


@dataclass(frozen=True)
class Line:
    """What became of one mutant.

    Attributes:
        name: The mistake, in words.
        kind: The kind of mistake.
        nameable: Whether a dictionary of mistakes can have a name for it.
        named: Whether ours names it, and the quantity that is wrong.
        caught: The checks that catch it.
        probes: Which of our probes fail, but for what is held back.
        diagnosis: What ours says.
    """

    name: str
    kind: str
    nameable: bool
    named: bool
    caught: tuple[str, ...]
    probes: tuple[str, ...]
    diagnosis: tuple[str, ...]


def make_line(mutant: Mutant) -> Line:
    """Try every check on one mutant."""
    caught_by = [name for name in RIVALS if _alone(caught, name, mutant)]
    report = ours(mutant)
    return Line(
        mutant.name,
        mutant.kind,
        bool(mutant.diagnosis),
        is_named(mutant, report),
        (*caught_by, *([] if report.ok else [OURS])),
        tuple(sorted({row.probe for row in report.findings})),
        tuple(report.diagnosis),
    )


def is_named(mutant: Mutant, report: Report) -> bool:
    """Whether the report names the mistake, and the quantity that is wrong."""
    quantity, _, text = mutant.diagnosis.partition(": ")
    return bool(mutant.diagnosis) and any(
        said.startswith(f"{quantity}:") and text in said for said in report.diagnosis
    )


def read() -> list[Line]:
    """Return the table that the site shows."""
    rows = json.loads(TABLE.read_text("utf-8"))
    return [
        Line(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
        for row in rows
    ]


def ours(mutant: Mutant) -> Report:
    """Check a mutant, or a control, with our checker."""
    chosen = [
        case
        for case in cases(mutant.family, "quick")
        if case.name in (*CASES, *mutant.cases)
    ]
    return _alone(
        check_convolution,
        mutant.fresh(),
        mutant.family,
        cases=chosen,
        dtypes=mutant.dtypes,
        require=mutant.require,
    )


def _alone(function, *arguments, **named):
    """Call, and put the state of the process back."""
    with undone():
        return function(*arguments, **named)


@contextmanager
def undone() -> Iterator[None]:
    """Put back what mutants leave behind."""
    before = State.now()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            before.restore()


def counts(lines: Sequence[Line]) -> dict[str, int]:
    """Return how many mutants each check catches."""
    names = (*RIVALS, OURS)
    return {name: sum(name in line.caught for line in lines) for name in names}


def sole_catches(lines: Sequence[Line]) -> dict[str, list[str]]:
    """Return, for each probe, the mutants of which it alone tells."""
    return {
        probe.name: [line.name for line in lines if line.probes == (probe.name,)]
        for probe in PROBES
    }


def markdown(lines: Sequence[Line]) -> str:
    """Return the table as the page shows it: the sums, by kind, and one by one."""
    total = counts(lines)
    sums = [f"| {name} | {n} |" for name, n in total.items()]
    short = ("one shape", "input", "all", "second", "adjoint", "opcheck")
    kinds = dict.fromkeys(line.kind for line in lines)
    by_kind = []
    for kind in kinds:
        these = [line for line in lines if line.kind == kind]
        found = " | ".join(str(counts(these)[name] or "") for name in RIVALS)
        by_kind.append(f"| {kind} | {len(these)} | {found} |")
    each = [
        f"| {line.name} | {', '.join(line.caught[:-1])} | {', '.join(line.probes)} |"
        for line in lines
    ]
    return "\n".join(
        [
            f"| check | caught, of {len(lines)} |",
            "|---|---|",
            *sums,
            "",
            f"| kind | mistakes | {' | '.join(short)} |",
            "|---|---|" + "---|" * len(short),
            *by_kind,
            "",
            '??? note "All of them, one by one"',
            "",
            "    | mistake | caught by, besides ours | our probes that fail |",
            "    |---|---|---|",
            *(f"    {row}" for row in each),
            "",
        ]
    )


def main() -> None:
    """Make the table and write it."""
    lines = [make_line(mutant) for mutant in tqdm(MUTANTS)]
    text = json.dumps([asdict(line) for line in lines], indent=1, ensure_ascii=False)
    TABLE.write_text(text + "\n", "utf-8")
    SHOWN.write_text(markdown(lines), "utf-8")
    print(len(lines), "mutants, caught by:", counts(lines))


if __name__ == "__main__":
    main()
