"""Results on disk: npz files without pickle, written whole or not at all."""

import os

import numpy as np


def write(path, arrays):
    """Write named arrays to an npz file under this very name, which appears only when it is complete."""
    path = os.fspath(path)
    temporary = f"{path}.part"
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def read(path):
    """The named arrays of an npz file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
