"""The smallest rank that holds a tolerance: guessed from a sketch's singular values, settled by true errors."""

import numpy as np

from curtensor import _validation


def smallest_rank(attempt, resketch, limit, rtol, least=1):
    """The result of the smallest rank found, from `least` on, with an error of at most rtol.

    ``resketch(size)`` makes a view of A by sketches of that size, and the tails of its singular values relative to
    ||A||_F; ``attempt(view, k)`` the result of rank k and its true relative error. Within four percent, or one, of
    a rank whose error is too large.
    """
    size = 32
    view, tails = resketch(size)
    errors, low, high, best = {}, least - 1, limit + 1, None
    while best is None or high - low > (near := max(1, high // 25)):
        fitting = np.flatnonzero(expected(errors, tails) <= rtol)
        k = max(int(fitting[0]) if len(fitting) else len(tails), least)
        if best is None and k > size // 2 and size < limit:
            size *= 2
            view, tails = resketch(size)
            continue
        if best is None:
            k += k // 100 if low else 0
        elif low:  # to the far side of where it is expected, so that both bounds close in
            k += near // 2 if high - k > k - low else -(near // 2)
        if not low < k < high:
            k = (low + high) // 2 if best is not None else min(low + 1 + low // 8, limit)
        result, errors[k] = attempt(view, k)
        if errors[k] <= rtol:
            high, best = k, result
        elif k == limit and size <= 2 * limit:  # a small sketch may have missed a direction
            size *= 2
            view, tails = resketch(size)
        elif k == limit:
            raise _validation.complain(ValueError, "rtol", f"at least {errors[k]:.2g} for this A", rtol)
        else:
            low = k
    return best


def expected(errors, tails):
    """Errors of all ranks that have a tail: so many times these as at the ranks tried, 1.3 times to begin with."""
    tried = [k for k in sorted(errors) if k < len(tails)] or [0]
    ratios = [errors[k] / max(tails[k], 1e-300) if k in errors else 1.3 for k in tried]
    return np.interp(np.arange(len(tails)), tried, np.clip(ratios, 1, 30)) * tails


def relative_tails(sketch, norm):
    """Norms of the singular values of a sketch beyond the first 0, 1, 2, ..., over ||A||_F."""
    s = np.linalg.svd(np.linalg.qr(sketch, mode="r"), compute_uv=False).astype(float)
    return np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0)) / (norm or 1)
