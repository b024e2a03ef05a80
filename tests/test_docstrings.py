"""The documented arguments are the real ones, and every section is there."""

import dataclasses
import inspect
import re

import pytest

import curtensor

PUBLIC = {name: getattr(curtensor, name) for name in curtensor.__all__}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
RESULTS = {name: value for name, value in PUBLIC.items() if dataclasses.is_dataclass(value) and name != "RowBlocks"}
SECTIONS = ("Parameters", "Returns", "Raises", "Notes", "References", "Examples")
# Definitions, which implement no published algorithm.
PLAIN = {"fold", "unfold", "mode_dot", "multi_mode_dot", "mode_gram", "tucker_to_tensor"}


def sections(value):
    """The numpydoc sections of a docstring: title to text."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", inspect.getdoc(value), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section):
    """Names and types in a section: lines at its margin, 'a, b : type'."""
    entries = {}
    for line in section.strip().splitlines():
        if line and not line.startswith(" ") and " : " in line:
            names, kind = line.split(" : ", 1)
            entries |= dict.fromkeys((name.strip() for name in names.split(",")), kind)
    return entries


@pytest.mark.parametrize("name", FUNCTIONS)
def test_documented_parameters_are_the_real_ones_in_order(name):
    signature = inspect.signature(FUNCTIONS[name])
    assert list(documented(sections(FUNCTIONS[name])["Parameters"])) == list(signature.parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_documented_defaults_are_the_real_ones(name):
    entries = documented(sections(FUNCTIONS[name])["Parameters"])
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        stated = re.search(r"default (.+)$", entries[parameter.name])
        if stated and stated.group(1) == "all":
            assert isinstance(parameter.default, tuple)
        elif stated:
            assert stated.group(1).replace('"', "'") == repr(parameter.default)
        elif parameter.default is not parameter.empty:
            assert entries[parameter.name].endswith("optional")
        else:
            assert "optional" not in entries[parameter.name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_section_is_there(name):
    needed = [section for section in SECTIONS if section != "References" or name not in PLAIN]
    found = sections(FUNCTIONS[name])
    assert [section for section in needed if section not in found] == []
    assert ">>> " in found["Examples"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_references_are_cited_and_have_a_year(name):
    text = sections(FUNCTIONS[name]).get("References", "")
    entries = re.split(r"^\.\. \[\d+\]", text, flags=re.MULTILINE)[1:]
    assert bool(entries) == (name not in PLAIN or bool(text))
    assert all(re.search(r"\b(18|19|20)\d\d\b", entry) for entry in entries)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_notes_state_the_passes_over_a_matrix(name):
    if "A" in inspect.signature(FUNCTIONS[name]).parameters:
        assert "pass" in sections(FUNCTIONS[name])["Notes"].lower()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_typed(name):
    signature = inspect.signature(FUNCTIONS[name])
    assert signature.return_annotation is not signature.empty
    assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())


@pytest.mark.parametrize("name", RESULTS)
def test_documented_attributes_are_the_fields(name):
    fields = [field.name for field in dataclasses.fields(RESULTS[name]) if not field.name.startswith("_")]
    assert sorted(documented(sections(RESULTS[name])["Attributes"])) == sorted(fields)


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_frozen_and_compared_by_identity(name):
    parameters = RESULTS[name].__dataclass_params__
    assert parameters.frozen
    assert not parameters.eq
