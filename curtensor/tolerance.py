"""The smallest rank that holds a tolerance: guessed from a sketch's singular values, settled by true errors."""

import numpy as np

from curtensor import _validation


def smallest_rank(attempt, resketch, limit, rtol):
    """The result of the smallest rank found with an error of at most rtol.

    ``resketch(size)`` makes a view of A by sketches of that size, and the tails of its singular values relative to
    ||A||_F; ``attempt(view, k)`` the result of rank k and its true relative error. Within four percent, or one, of
    a rank whose error is too large.
    """
    size = 32
    view, tails = resketch(size)
    ratio, low, high, best = 1.3, 0, limit + 1, None
    while best is None or high - low > max(1, high // 25):
        fitting = np.flatnonzero(ratio * tails <= rtol)
        k = int(fitting[0]) if len(fitting) else len(tails)
        if best is None and k > size // 2 and size < limit:
            size *= 2
            view, tails = resketch(size)
            continue
        if not low < k < high:
            k = (low + high) // 2 if best is not None else min(low + 1 + low // 8, limit)
        result, error = attempt(view, k)
        if error <= rtol:
            high, best = k, result
        elif k == limit:
            raise _validation.complain(ValueError, "rtol", f"at least {error:.2g} for this A", rtol)
        else:
            low = k
        ratio = min(max(error / max(tails[min(k, len(tails) - 1)], 1e-300), 1), 30)
    return best


def relative_tails(sketch, norm):
    """Norms of the singular values of a sketch beyond the first 0, 1, 2, ..., over ||A||_F."""
    s = np.linalg.svd(np.linalg.qr(sketch, mode="r"), compute_uv=False).astype(float)
    return np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0)) / (norm or 1)
