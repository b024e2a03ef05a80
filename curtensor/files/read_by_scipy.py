"""A script: reads a .mtx or .mat file by SciPy, and writes one array or sparse matrix of it as .npz.

Its arguments are "market" or "matlab", the file, the file to write and, perhaps, the name of a variable. The last line
on standard error says what is wrong.
"""

import sys

import numpy as np
from scipy import io, sparse


def market(path):
    """The matrix of a MatrixMarket file."""
    m, n, *_, symmetry = io.mminfo(path)
    if m != n and symmetry != "general":  # SciPy 1.17 makes up entries of a dense one
        raise ValueError(f"a {symmetry} matrix must be square, got {m} x {n}")
    return io.mmread(path, spmatrix=False)


def matlab(path, wanted=None):
    """A variable of a MATLAB file: the wanted, or the only one that is a matrix of numbers."""
    found = {name: A for name, A in io.loadmat(path, spmatrix=False).items() if is_variable(A)}
    if wanted is None and len(found) != 1:
        raise LookupError(f'{len(found)}: {", ".join(found)}; try dataset="{next(iter(found))}"' if found else "none")
    if wanted is not None and wanted not in found:
        raise LookupError(f"no {wanted!r} but {', '.join(found) or 'none'}")
    return found[next(iter(found)) if wanted is None else wanted]


def is_variable(A):
    """Whether what a MATLAB file holds is a matrix of numbers, and no single number, line or text."""
    return sparse.issparse(A) or (isinstance(A, np.ndarray) and A.dtype.kind in "biufc" and 1 not in A.shape)


def written_as_npz(A, path):
    """Write an array or a sparse matrix."""
    if sparse.issparse(A):
        sparse.save_npz(path, A, compressed=False)
    else:
        np.savez(path, A)


if __name__ == "__main__":
    kind, source, target, *name = sys.argv[1:]
    try:
        written_as_npz({"market": market, "matlab": matlab}[kind](source, *name), target)
    except LookupError as error:  # of several
        print(error.args[0], file=sys.stderr)
        sys.exit(3)
    except Exception as error:  # SciPy has its own for what it does not take
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
