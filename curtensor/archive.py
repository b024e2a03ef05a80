"""Results on disk: npz files without pickle, written whole or not at all."""

import contextlib
import os
import zipfile

import numpy as np

from curtensor import _validation
from curtensor.files import written_whole


def write(path, arrays):
    """Write named arrays to an npz file under this very name, which appears only when it is complete."""
    with written_whole(path) as file:
        np.savez(file, **arrays)


def read(path):
    """The named arrays of an npz file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@contextlib.contextmanager
def written_by(writer, path):
    """The named arrays of an npz file; what goes wrong with them is that another than the writer wrote them."""
    with open(path, "rb") as file:
        try:
            yield dict(np.load(file, allow_pickle=False))
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            got = _validation.describe(os.fspath(path))
            raise _validation.complain(ValueError, "path", f"a file written by {writer}", got) from None
