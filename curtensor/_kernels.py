"""Every Numba kernel: bare loops on contiguous arrays and numbers, each with a plain twin in ``tests/naive.py``."""

import numba
import numpy as np

# Reductions may be reordered; NaN and infinity must survive, so never the whole of fastmath.
REDUCTION = {"reassoc", "contract", "arcp", "nsz", "afn"}
TILE = 1024
SMALL = 2**17  # entries below which callers ask NumPy: a first look at a small table shall not wait for a compiler


def kernel(function):
    """Compile at the first call; cache on disk where some folder can be written."""
    options = {"nogil": True, "fastmath": REDUCTION, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to cache in: a read-only install and a read-only home
        return numba.njit(**options)(function)


@kernel
def sketch_panel(panel, rows, row_signs, cols, col_signs, left, right):
    """Add a panel's share of both sparse-sign sketches, and return the sum of its squared moduli.

    ``left[rows[i, t], :] += row_signs[i, t] * panel[i, :]`` for all i, t, and
    ``right[cols[j, t], i] += col_signs[j, t] * panel[i, j]`` for all i, j, t.
    """
    m, n = panel.shape
    total = 0.0
    tile = np.empty((TILE, 32), panel.dtype)
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        for first in range(0, m, 32):
            height = min(32, m - first)
            for i in range(height):
                source = panel[first + i, start:stop]
                subtotal = 0.0
                for j in range(stop - start):
                    x = source[j]
                    subtotal += np.float64(x.real) * np.float64(x.real) + np.float64(x.imag) * np.float64(x.imag)
                total += subtotal
                for t in range(rows.shape[1]):
                    sign = row_signs[first + i, t]
                    target = left[rows[first + i, t], start:stop]
                    for j in range(stop - start):
                        target[j] += sign * source[j]
            if cols.shape[1] == 0:
                continue
            for i in range(height):
                for j in range(stop - start):
                    tile[j, i] = panel[first + i, start + j]
            for j in range(stop - start):
                for t in range(cols.shape[1]):
                    sign = col_signs[start + j, t]
                    target = right[cols[start + j, t], first : first + height]
                    for i in range(height):
                        target[i] += sign * tile[j, i]
    return total


@kernel
def squared_moduli(panel):
    """Sum of squared moduli, in float64."""
    total = 0.0
    for i in range(panel.shape[0]):
        row = panel[i]
        subtotal = 0.0
        for j in range(panel.shape[1]):
            x = row[j]
            subtotal += np.float64(x.real) * np.float64(x.real) + np.float64(x.imag) * np.float64(x.imag)
        total += subtotal
    return total


@kernel
def pack_panel(slabs, panel):
    """Lay slabs (L, d, R) side by side: ``panel[i, l * R + r] = slabs[l, i, r]``."""
    L, d, R = slabs.shape
    for l in range(L):
        for i in range(d):
            for r in range(R):
                panel[i, l * R + r] = slabs[l, i, r]


@kernel
def gather(flat, rows, columns, out):
    """Entries of a flat array at sums of two offsets: ``out[i, j] = flat[rows[i] + columns[j]]``."""
    for i in range(rows.size):
        for j in range(columns.size):
            out[i, j] = flat[rows[i] + columns[j]]
