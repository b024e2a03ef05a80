"""The example scripts are run by hand: they have no doctests to be collected, and need more than the tests do."""

collect_ignore_glob = ["examples/*.py"]
