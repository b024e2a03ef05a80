"""Candidates that are chosen together or not at all: the columns of one category, the sensors of one station."""

from collections.abc import Hashable, Iterable

import numpy as np

from curtensor import _validation
from curtensor.operands.arithmetic import orthonormal_rest

GAIN = 1e-3  # of what a group explains: the one that takes its place must explain so much more
ROUNDS = 3  # of exchanges at most
DEPENDENT = 1e-10  # of the largest eigenvalue of a group's Gram matrix: what is smaller tells nothing of its own
NOISE = 1e3  # times the dtype's epsilon, of the norm: what is smaller in all is rounding


def members_of(groups, n, name="groups"):
    """The index arrays of the groups that n labels name, in the order in which these first come."""
    if isinstance(groups, str | bytes) or not isinstance(groups, Iterable):
        raise _validation.complain(TypeError, name, f"a sequence of {n} labels", _validation.describe(groups))
    labels = list(groups)
    if len(labels) != n:
        raise _validation.complain(ValueError, name, f"{n} labels, one for each candidate", len(labels))
    members = {}
    for index, label in enumerate(labels):
        if not isinstance(label, Hashable) or label is None or label != label:
            raise _validation.complain(ValueError, name, "a label for each candidate", f"{label!r} for {index}")
        members.setdefault(label, []).append(index)
    return [np.array(indices, dtype=np.intp) for indices in members.values()]


def choose_groups(sketch, members, k, include=(), exclude=()):
    """At most k groups of a sketch's rows (n, l) which leave little of it, as numbers in the order of choice.

    The group that takes most of what is left, time and again; then each in turn makes room for the one that takes most
    where it is missing, as long as one takes more. O(n l^2) operations for each choice and each exchange.
    """
    sketch = sketch.astype(np.result_type(sketch.dtype, float), copy=False)
    floor = (NOISE * np.finfo(sketch.dtype).eps * np.linalg.norm(sketch)) ** 2
    sizes = np.array([len(indices) for indices in members])
    alike = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    chosen = list(include)

    def best_beside(others):
        """The group that takes most of what some leave, how much it takes, and what each of the others does."""
        indices = [index for group in others for index in members[group]]
        taken = captured(orthonormal_rest(sketch, indices) if indices else sketch, members, alike)
        open_to = taken.copy()
        open_to[[*others, *exclude]] = 0
        best = int(open_to.argmax())
        return best, open_to[best], taken

    while len(chosen) < k:
        best, most, _ = best_beside(chosen)
        if most <= floor:
            break
        chosen.append(best)
    for _ in range(ROUNDS):
        before = list(chosen)
        for place in range(len(include), len(chosen)):
            best, most, taken = best_beside(chosen[:place] + chosen[place + 1 :])
            if most > (1 + GAIN) * taken[chosen[place]] + floor:
                chosen[place] = best
        if chosen == before:
            break
    return chosen


def captured(rest, members, alike):
    """What the projection on each group's rows takes of ``||rest||_F^2``, for groups of one size at once."""
    seen = rest @ (rest.conj().T @ rest)
    taken = np.empty(len(members))
    for groups in alike:
        indices = np.array([members[group] for group in groups])
        rows = rest[indices].conj().swapaxes(1, 2)
        squares, V = np.linalg.eigh(rest[indices] @ rows)
        gains = np.einsum("gij,gij->gj", V.conj(), (seen[indices] @ rows) @ V).real
        known = squares > DEPENDENT * squares[:, -1:]
        taken[groups] = (np.where(known, gains, 0) / np.where(known, squares, 1)).sum(axis=1)
    return taken
