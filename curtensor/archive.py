"""Results on disk: npz files without pickle, written whole or not at all."""

import numpy as np

from curtensor.files import written_whole


def write(path, arrays):
    """Write named arrays to an npz file under this very name, which appears only when it is complete."""
    with written_whole(path) as file:
        np.savez(file, **arrays)


def read(path):
    """The named arrays of an npz file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
