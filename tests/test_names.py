"""Names: the tables of the page are the signatures, and the same thing has the same name, place and default."""

import inspect
from itertools import pairwise

import pytest

pytest.importorskip("sklearn")  # estimators are public, too

from curtensor import __main__ as command
from curtensor.files import read_matrix
from evidence import names, pages

THREE = {"fold", "mode_dot", "multi_mode_dot", "cur_from_indices"}  # none makes sense without the others
OTHER_WORDS = {  # of the command alone, or as a shell has them
    *("help", "version", "file", "tensor", "plot", "csv", "output", "dataset", "seed", "memory"),
}


def parameters(name):
    """The arguments of a function, in their order."""
    return list(names.signature(names.CALLED[name]).values())


@pytest.mark.parametrize("table", names.TABLES)
def test_the_page_has_what_the_signatures_say(table):
    wanted = [[cell.strip() for cell in row] for row in names.TABLES[table]()]
    assert pages.read_table(names.PAGE, table) == wanted, "write the page by `python -m evidence.names`"


@pytest.mark.parametrize("name", names.CALLED)
def test_arguments_stand_in_the_order_of_the_table(name):
    order = list(names.ARGUMENTS)
    places = [order.index(part.name) for part in parameters(name) if part.kind != part.POSITIONAL_ONLY]
    assert all(before < after for before, after in pairwise(places))


def test_progress_comes_last_and_randomness_before_it():
    assert list(names.ARGUMENTS)[-3:] == ["rng", "random_state", "callback"]


@pytest.mark.parametrize("name", names.FUNCTIONS)
def test_arrays_come_first_and_have_no_keyword(name):
    first, *_ = parameters(name)
    assert first.kind == first.POSITIONAL_ONLY
    arrays = [part for part in parameters(name) if part.kind == part.POSITIONAL_ONLY]
    assert {part.name for part in arrays} <= {"A", "X", "Y", "M", "Ms", "core", "factors", "approximation", "source"}
    assert all(part.default is part.empty for part in arrays)


@pytest.mark.parametrize("name", names.CALLED)
def test_two_arguments_at_most_go_by_position(name):
    found = [part for part in parameters(name) if part.kind != part.KEYWORD_ONLY]
    assert len(found) == 3 if name in THREE else len(found) <= 2
    assert not {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL} & {part.kind for part in found}


@pytest.mark.parametrize("name", names.CALLED)
def test_a_rank_or_a_tolerance_may_be_given_wherever_a_tolerance_may(name):
    kinds = {part.name: part for part in parameters(name)}
    assert not {"rank", "ranks"} <= kinds.keys()
    assert ("k" in kinds) == (name in ("select_columns", "select_rows"))
    if "rtol" in kinds:
        rank = kinds.get("rank") or kinds["ranks"]
        assert rank.kind == rank.POSITIONAL_OR_KEYWORD
        assert (rank.default, kinds["rtol"].default) == (None, None)


@pytest.mark.parametrize("argument", names.ARGUMENTS)
def test_a_default_that_differs_has_a_reason_and_no_other(argument):
    found = set(names.defaults(argument).values())
    assert found
    assert (len(found) > 1) == (argument in names.REASONS)


@pytest.mark.parametrize("argument", names.ARGUMENTS)
def test_an_argument_has_the_same_type_but_for_being_needed(argument):
    annotations = {
        str(part.annotation).replace(" | None", "")
        for name in names.FUNCTIONS
        for part in parameters(name)
        if part.name == argument and part.kind != part.POSITIONAL_ONLY
    }
    assert len(annotations) <= (2 if argument in ("method", "shape") else 1), annotations


@pytest.mark.parametrize("name", names.RESULTS | names.ESTIMATORS)
def test_what_classes_do_is_annotated(name):
    ours = [kind for kind in inspect.getmro(names.PUBLIC[name]) if kind.__module__.startswith("curtensor")]
    members = [(key, member) for kind in ours for key, member in vars(kind).items() if not key.startswith("_")]
    for key, member in members:
        function = getattr(member, "fget", getattr(member, "__func__", member))
        if inspect.isfunction(function):
            first, *given = inspect.signature(function).parameters.values()
            assert inspect.signature(function).return_annotation is not first.empty, key
            assert all(part.annotation is not part.empty for part in given), key


def test_options_of_the_command_are_called_as_the_arguments():
    commands = next(action for action in command.parser()._actions if action.choices).choices
    options = {action.dest for parser in commands.values() for action in parser._actions}
    assert {"rank", "rtol", "n_columns", "n_rows", "method", "methods", "core"} <= options
    assert options - OTHER_WORDS <= names.ARGUMENTS.keys() | inspect.signature(read_matrix).parameters


@pytest.mark.slow
def test_adapters_have_the_same_words_in_the_same_order():
    pytest.importorskip("torch")
    from curtensor import adapters

    order = list(names.ARGUMENTS)
    for name in adapters.__all__:
        if name.endswith(("Config", "Model")):  # of PEFT, which has its own words
            continue
        found = inspect.signature(getattr(adapters, name)).parameters
        places = [order.index(part) for part in found if part in order]
        assert all(before < after for before, after in pairwise(places)), name
        assert not {"k", "seed", "random_state", "tol"} & found.keys()
