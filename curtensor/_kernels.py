"""Every Numba kernel: bare loops on contiguous arrays and numbers, each with a plain twin in ``tests/naive.py``."""

import numba
import numpy as np

# Reductions may be reordered; NaN and infinity must survive, so never the whole of fastmath.
REDUCTION = {"reassoc", "contract", "arcp", "nsz", "afn"}
TILE = 1024


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
def osinsky_pass(state, k, done, ridge, weights, limit, tie, chosen):
    """Choose rows of ``state = [coefficients (done) | basis (k - done) | residual]`` greedily, overwriting it.

    A row holds its coefficients on the chosen rows, the coordinates of its basis part outside their span, and its
    residual less what the chosen rows' residuals explain. The next choice has the smallest score
    (||residual||^2 + ridge (1 + ||coefficients||^2)) / (weight ||basis part||^2), or is the first that is larger by
    no more than a share ``tie``. Stops at k choices, when none is left, or after the first choice when the best score
    exceeds ``limit``. Returns the number of choices in all.
    """
    n, width = state.shape
    leverage = np.empty(n)
    loss = np.empty(n)
    for j in range(n):
        rho = 0.0
        for t in range(done, k):
            rho += state[j, t].real ** 2 + state[j, t].imag ** 2
        e = 0.0
        for t in range(done):
            e += state[j, t].real ** 2 + state[j, t].imag ** 2
        e = ridge * (1.0 + e)
        for t in range(k, width):
            e += state[j, t].real ** 2 + state[j, t].imag ** 2
        leverage[j] = rho
        loss[j] = e
    reflector = np.empty(k, state.dtype)
    pivot = np.empty(width, state.dtype)
    for i in range(done, k):
        p = -1
        best = np.inf
        for j in range(n):
            if leverage[j] > 1e-24 and loss[j] < best * leverage[j] * weights[j]:
                best = loss[j] / (leverage[j] * weights[j])
                p = j
        if p < 0 or (i > done and best > limit):
            return i
        for j in range(p):
            if leverage[j] > 1e-24 and loss[j] <= (1.0 + tie) * best * leverage[j] * weights[j]:
                p = j
                break
        chosen[i] = p
        leverage[p] = -1.0
        pivot[:] = state[p]
        norm = 0.0
        for t in range(i, k):
            norm += pivot[t].real ** 2 + pivot[t].imag ** 2
        norm = np.sqrt(norm)
        head = np.abs(pivot[i])
        phase = pivot[i] / head if head > 0 else pivot[i] + 1
        # pivot (I - 2 v v^H) = -norm phase e_i, with v along (pivot + norm phase e_i)^H
        scale = 1 / np.sqrt(2 * norm * (norm + head))
        for t in range(i, k):
            reflector[t] = np.conj(pivot[t]) * scale
        reflector[i] += np.conj(phase) * norm * scale
        beta = -norm * phase
        for j in range(n):
            if leverage[j] <= 1e-24:
                continue
            row = state[j]
            dot = row[i] * reflector[i]
            for t in range(i + 1, k):
                dot += row[t] * reflector[t]
            dot *= 2
            a = (row[i] - dot * np.conj(reflector[i])) / beta
            e = 1.0
            for t in range(i):
                row[t] -= a * pivot[t]
                e += row[t].real ** 2 + row[t].imag ** 2
            row[i] = a
            e = (e + a.real**2 + a.imag**2) * ridge
            rho = 0.0
            for t in range(i + 1, k):
                row[t] -= dot * np.conj(reflector[t])
                rho += row[t].real ** 2 + row[t].imag ** 2
            for t in range(k, width):
                row[t] -= a * pivot[t]
                e += row[t].real ** 2 + row[t].imag ** 2
            leverage[j] = rho
            loss[j] = e
    return k


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
