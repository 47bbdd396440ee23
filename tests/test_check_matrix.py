"""The checker on trial: what it must catch and name, and what it must let pass."""

from dataclasses import replace

import pytest
from check_controls import CONTROLS
from check_matrix import (
    OURS,
    SHOWN,
    counts,
    make_line,
    markdown,
    ours,
    read,
    sole_catches,
    undone,
)
from check_mutant import Mutant
from check_mutants import MUTANTS
from check_rivals import RIVALS, caught

#: A probe that only notes, and one that guards the cases, not the function.
NOT_CATCHING = {"NaN containment", "vacuity"}


@pytest.fixture(scope="module")
def lines():
    return read()


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_table_says_what_becomes_of_each_mutant(mutant, lines):
    [line], made = (
        [line for line in lines if line.name == mutant.name],
        make_line(mutant),
    )
    if mutant.by_chance:
        made = replace(made, probes=line.probes, diagnosis=line.diagnosis)
    assert line == made


def test_the_table_has_no_other_mutants(lines):
    assert [line.name for line in lines] == [mutant.name for mutant in MUTANTS]


def test_the_page_shows_this_table(lines):
    assert SHOWN.read_text("utf-8") == markdown(lines)


def test_there_are_many_mutants_of_many_kinds():
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 100
    assert len({mutant.kind for mutant in MUTANTS}) >= 25


def test_ours_catches_every_mutant(lines):
    assert [line.name for line in lines if OURS not in line.caught] == []


def test_ours_names_nine_tenths_of_what_a_dictionary_can_know(lines):
    nameable = [line for line in lines if line.nameable]
    unnamed = [line.name for line in nameable if not line.named]
    assert len(nameable) >= 40
    assert len(unnamed) <= len(nameable) / 10, unnamed


def test_no_mutant_gets_the_name_of_another_mistake(lines):
    """Where ours names a mistake in a quantity, the true one is among its names."""
    wrong = [
        (line.name, line.diagnosis)
        for line in lines
        if line.nameable and line.diagnosis and not line.named
    ]
    assert wrong == []


def test_each_of_the_usual_checks_catches_some_but_less_than_half_of_ours(lines):
    total = counts(lines)
    for rival in RIVALS:
        assert 0 < total[rival] < total[OURS] / 2, rival


def test_each_probe_is_the_only_catcher_of_some_mutant(lines):
    idle = {probe for probe, names in sole_catches(lines).items() if not names}
    assert idle <= NOT_CATCHING


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_ours_finds_nothing_wrong_in_a_right_function(control: Mutant):
    report = ours(control)
    assert report.ok, str(report)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize(
    "control", [each for each in CONTROLS if "by hand" in each.name], ids=str
)
def test_no_usual_check_finds_anything_wrong_in_the_right_function(control, rival):
    with undone():
        assert not caught(rival, control)
