"""Tensor trains: what they are, what can be done with them, and the TT-SVD of an array."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curtensor import _validation, archive
from curtensor.operands import find_tensor, on_host
from curtensor.operands.dense_tensor import DenseTensor, plain_array
from curtensor.results import Result, in_kind, named
from curtensor.tensors.entries import scaling

PLACES = 4096  # entries formed at a time
PRODUCTS = 2**18  # numbers up to which the products with all slices cost less than a choice of slices
GATHERED = 2**17  # numbers up to which slices are gathered for places, and not places for slices
LARGEST_ARRAY = 2**30  # entries of a tensor train that are formed at once


@dataclass(frozen=True, eq=False, repr=False)
class TensorTrain(Result):
    """A tensor train, which unpacks to its cores, as TensorLy knows it.

    ``X[i_0, ..., i_{N-1}]`` is close to ``cores[0][:, i_0] @ cores[1][:, i_1] @ ... @ cores[N-1][:, i_{N-1}]``.

    Attributes
    ----------
    cores : tuple of ndarray, shapes (r_n, d_n, r_{n+1})
        With r_0 = r_N = 1.
    left_indices : tuple of ndarray of int, shapes (r_{n+1}, n + 1)
        Of `tt_cross`, for each n from 0 to N - 2: the indices in modes 0 to n of the rows that were chosen of the n-th
        unfolding. They are nested: each without its last index is among those before. Empty where none were chosen.
    right_indices : tuple of ndarray of int, shapes (r_{n+1}, N - 1 - n)
        The same for its columns, by the indices in modes n + 1 to N - 1.
    n_entries_read : int
        Entries of X read in all.
    error_estimate : float
        ``||X - approximation||_F / ||X||_F``; see `tt_cross` and `tt_svd`.
    converged : bool
        Whether entries which no choice had seen show the error that was asked for.
    names : tuple of (pandas Index or ndarray of str or None)
        Names of all slices of each mode, None where X has none: the coordinates of a DataArray along its dimensions,
        the index and the columns of a DataFrame.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    cores: tuple[np.ndarray, ...]
    left_indices: tuple[np.ndarray, ...] = ()
    right_indices: tuple[np.ndarray, ...] = ()
    n_entries_read: int = 0
    error_estimate: float = 0.0
    converged: bool = True

    MAIN = "cores"

    def __iter__(self) -> Iterator:
        """The cores."""
        return iter(self.cores)

    def __len__(self) -> int:
        """Number of cores, one for each mode."""
        return len(self.cores)

    def __getitem__(self, n: int | slice) -> Any:
        """A core, or a tuple of some."""
        return self.cores[n]

    def __repr__(self) -> str:
        """Lengths, ranks and error in one line, however many modes there are."""
        lengths, ranks = shortened(self.shape), shortened(self.ranks)
        kept = f", error_estimate={self.error_estimate!r}, converged={self.converged!r}"
        extra = f", names={_validation.describe(self.dims)}" if self.dims else ""
        return f"TensorTrain(<{lengths}>, ranks={ranks}, n_entries_read={self.n_entries_read}{kept}{extra})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (d_0, ..., d_{N-1}) of the approximation."""
        return tuple(core.shape[1] for core in self.cores)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the approximation."""
        return self.cores[0].dtype

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks (r_1, ..., r_{N-1}) between neighbouring cores."""
        return tuple(core.shape[0] for core in self.cores[1:])

    def to_array(self) -> Any:
        """The approximation as a dense array, of at most 2^30 entries."""
        if self.size > LARGEST_ARRAY:
            got = f"{self.size:.3g}" if self.size < 1e300 else "more than 1e300"
            raise _validation.complain(ValueError, "the array", f"of at most {LARGEST_ARRAY} entries", got)
        first, *others = host_cores(self)
        X = first
        for core in others:
            X = X.reshape(-1, len(core)) @ core.reshape(len(core), -1)
        return find_tensor(self.cores[0]).like(X.reshape(self.shape))

    def at(self, indices: Sequence[Any]) -> np.ndarray:
        """Entries at broadcastable arrays of integers, one for each mode, in their common shape."""
        places = index_arrays(indices, self.shape)
        shape = np.broadcast_shapes(*(place.shape for place in places))
        flat = [np.broadcast_to(place, shape).ravel() for place in places]
        return train_entries(host_cores(self), flat).reshape(shape)

    def sum(self, modes: int | Sequence[int] | None = None, weights: Sequence[Any] | None = None) -> Any:
        """The sum over some modes, or all, each slice times its weight.

        ``weights`` are an array (d_n,) for each of ``modes``, of quadrature for example. What is left is a
        `TensorTrain`, or a number where no mode is.
        """
        over = mode_list(modes, self.ndim)
        lengths = [self.shape[mode] for mode in over]
        if weights is None:
            weights = [np.ones(length, host_cores(self)[0].dtype) for length in lengths]
        return contracted(self, dict(zip(over, weight_list(weights, lengths), strict=True)))

    def mean(self, modes: int | Sequence[int] | None = None) -> Any:
        """The mean over some modes, or all: a `TensorTrain` of the others, or a number."""
        dtype = host_cores(self)[0].dtype
        lengths = {mode: self.shape[mode] for mode in mode_list(modes, self.ndim)}
        return contracted(self, {mode: np.full(length, 1 / length, dtype) for mode, length in lengths.items()})

    def inner(self, other: "TensorTrain") -> Any:
        """The inner product ``sum(self.conj() * other)`` with a tensor train of the same shape."""
        if not isinstance(other, TensorTrain):
            raise _validation.complain(TypeError, "other", "a TensorTrain", type(other).__name__)
        if other.shape != self.shape:
            raise _validation.complain(ValueError, "other", f"of shape {self.shape}", other.shape)
        value, exponent = inner_product(host_cores(self), host_cores(other))
        with np.errstate(over="ignore", under="ignore"):
            return scaled_number(value, exponent)

    def norm(self) -> float:
        """The Frobenius norm; from orthonormal cores, so that no digits are lost to squares."""
        cores, exponent = orthogonalised(host_cores(self))
        last, more = rescaled(cores[-1])
        with np.errstate(over="ignore", under="ignore"):
            return float(np.ldexp(float(np.linalg.norm(last)), exponent + more))

    def round(self, rtol: float | None = None, ranks: int | Sequence[int] | None = None) -> "TensorTrain":
        """A tensor train of lower ranks, at most so far from this one, or of so high ranks at most.

        Its `error_estimate` is this one and what is cut off, which is at most their sum; index sets are not kept.
        """
        if (rtol is None) == (ranks is None):
            raise _validation.complain(
                ValueError, "rtol or ranks", "given, one of the two", "neither" if rtol is None else "both"
            )
        if rtol is not None:
            rtol = _validation.tolerance(rtol, host_cores(self)[0].dtype)
        most = None if ranks is None else train_ranks(ranks, self.shape)
        cores, lost, total = rounded(host_cores(self), rtol, most)
        error = self.error_estimate + lost / (total or 1) * (1 + self.error_estimate)
        result = TensorTrain(
            tuple(cores),
            n_entries_read=self.n_entries_read,
            error_estimate=float(error),
            converged=self.converged,
            names=self.names,
            dims=self.dims,
        )
        return in_kind(result, find_tensor(self.cores[0]))

    def to_tensorly(self) -> Any:
        """The approximation as a `tensorly.tt_tensor.TTTensor`."""
        from tensorly.tt_tensor import TTTensor

        return TTTensor(list(self.cores))

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """The cores, the index sets and what is known of the error in a file."""
        cores = [archive.numbers(members, "cores.0", (1, None, None))]
        while cores[-1].shape[2] != 1 or f"cores.{len(cores)}" in members:
            fitting = cores[-1].shape[2], None, None
            cores.append(archive.numbers(members, f"cores.{len(cores)}", fitting, cores[0].dtype))
        shape = _validation.tensor_shape((core.shape[1] for core in cores), least=1)
        _validation.tensor_shape((len(core) for core in cores), "ranks", least=1)
        sets = {"left_indices": (), "right_indices": ()}
        for name in sets:
            if f"{name}.0" in members:
                parts = [shape[: n + 1] if name[0] == "l" else shape[n + 1 :] for n in range(len(shape) - 1)]
                sets[name] = tuple(
                    archive.multi_indices(members, f"{name}.{n}", len(cores[n + 1]), part)
                    for n, part in enumerate(parts)
                )
        kinds = {"n_entries_read": "i", "error_estimate": "f", "converged": "b"}
        return {"cores": tuple(cores)} | sets | {name: archive.scalar(members, name, k) for name, k in kinds.items()}


def tt_svd(
    X: Any,
    /,
    ranks: int | _validation.Integers | None = None,
    *,
    rtol: float | None = None,
) -> TensorTrain:
    """Approximate an array by a tensor train, by truncated SVDs of its unfoldings.

    ``X[i_0, ..., i_{N-1}]`` is close to ``cores[0][:, i_0] @ ... @ cores[N-1][:, i_{N-1}]``.

    Parameters
    ----------
    X : array_like, sparse array or DataArray, shape (d_0, ..., d_{N-1})
        Real or complex, with two modes or more; integers and bool are taken as float64. Coordinates and dimensions of
        an xarray DataArray are kept as names.
    ranks : int or sequence of int, optional
        The N - 1 ranks between neighbouring cores, each at most the product of the lengths on either side; an int is
        meant for all of them, as far as that. Exactly one of `ranks` and `rtol` is given.
    rtol : float, optional
        Largest ``||X - approximation||_F / ||X||_F`` wanted, 64 times the dtype's epsilon to below 1.

    Returns
    -------
    result : TensorTrain
        Unpacks to its cores, all but the last with orthonormal columns, shape (r_n d_n, r_{n+1}). Its `error_estimate`
        is exact up to rounding.

    Raises
    ------
    TypeError
        If X is no array of numbers, or another argument of the wrong kind.
    ValueError
        If X has fewer than two modes, is empty or not finite; if not exactly one of `ranks` and `rtol` is given; if a
        number is out of range.

    Notes
    -----
    X is read once, and about two copies of it are held: this is for arrays that fit into memory, and for comparison.
    The error is at most ``sqrt(N - 1)`` times the best of these ranks ([1]_, Corollary 2.4). Operations: those of an
    SVD of each unfolding, of what the one before has left.

    References
    ----------
    .. [1] I. V. Oseledets, "Tensor-train decomposition", SIAM J. Sci. Comput. 33(5), 2011.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> i, j, k = np.ogrid[:30, :40, :50]
    >>> X = 1 / (1.0 + i + j + k)
    >>> train = ct.tt_svd(X, rtol=1e-6)
    >>> train.ranks
    (8, 9)
    >>> bool(np.linalg.norm(X - train.to_array()) <= 1e-6 * np.linalg.norm(X))
    True
    """
    tensor = find_tensor(X, least=2)
    ranks, rtol = train_ranks_or_rtol(ranks, rtol, tensor.shape, tensor.dtype)
    _validation.found_finite(tensor.first_nonfinite(), "X")

    array = tensor.host().whole()
    exponent = scaling(tensor, DenseTensor(array))
    cores, lost, total = truncated_unfoldings(np.ldexp(array, exponent) if exponent else array, ranks, rtol)
    cores[-1] = cores[-1] * 2.0**-exponent if exponent else cores[-1]
    error = float(lost / (total or 1))
    result = TensorTrain(tuple(cores), n_entries_read=math.prod(tensor.shape), error_estimate=error)
    return named(in_kind(result, tensor), X)


def truncated_unfoldings(X, ranks, rtol):
    """Cores of an array, the norm of what is cut off, and of all ([1], Alg. 1)."""
    shape, total = X.shape, np.linalg.norm(X)
    cutting = 0 if rtol is None else rtol * total / math.sqrt(len(shape) - 1)
    cores, lost, rank = [], 0.0, 1
    for n, length in enumerate(shape[:-1]):
        U, s, Vh = np.linalg.svd(X.reshape(rank * length, -1), full_matrices=False)
        rank_after = kept(s, cutting) if ranks is None else ranks[n]
        lost = np.hypot(lost, np.linalg.norm(s[rank_after:]))
        cores.append(U[:, :rank_after].reshape(rank, length, -1))
        X, rank = s[:rank_after, None] * Vh[:rank_after], rank_after
    return [*cores, X.reshape(rank, shape[-1], 1)], lost, total


def host_cores(train):
    """The cores of a train as arrays of NumPy."""
    return tuple(map(on_host, train.cores))


def kept(s, cutting):
    """How many singular values are to be kept, one at least, so that the norm of the others is at most that."""
    tails = np.sqrt(np.cumsum(np.square(s / (s[0] or 1))[::-1]))[::-1]
    return max(int(np.count_nonzero(tails > cutting / (s[0] or 1))), 1)


def train_step(rows, core, places):
    """Products of rows (p, r) with the slices of a core at places (p,)."""
    length = core.shape[1]
    if len(rows) * length * core.shape[2] <= PRODUCTS:
        products = rows @ core.reshape(len(core), -1)
        return products.reshape(len(rows), length, -1)[np.arange(len(rows)), places]
    few = 4 if rows.size * core.shape[2] > GATHERED else 32
    if len(places) < few * length:
        return np.matmul(rows[:, None], core.transpose(1, 0, 2)[places])[:, 0]
    product = np.empty((len(rows), core.shape[2]), np.result_type(rows, core))
    order = np.argsort(places.astype(np.uint16) if length < 2**16 else places, kind="stable")  # by digits: faster
    bounds = np.searchsorted(places[order], np.arange(length + 1))
    for i in np.flatnonzero(np.diff(bounds)):
        here = order[bounds[i] : bounds[i + 1]]
        product[here] = rows[here] @ core[:, i]
    return product


def train_entries(cores, places):
    """Entries of a tensor train at tuples of indices, one array (p,) for each mode."""
    values = np.empty(len(places[0]), cores[0].dtype)
    for start in range(0, len(values), PLACES):
        part = slice(start, start + PLACES)
        rows = cores[0][0, places[0][part]]
        for core, place in zip(cores[1:], places[1:], strict=True):
            rows = train_step(rows, core, place[part])
        values[part] = rows[:, 0]
    return values


def contracted(train, weights):
    """A tensor train with some modes summed over with weights: a number where none is left."""
    cores, hosted = [], host_cores(train)
    before = np.ones((1, 1), hosted[0].dtype)
    for n, core in enumerate(hosted):
        if n in weights:
            before = before @ np.tensordot(core, weights[n], (1, 0))
        else:
            cores.append(np.tensordot(before, core, 1))
            before = np.eye(core.shape[2], dtype=core.dtype)
    if not cores:
        return before[0, 0].item()
    cores[-1] = np.tensordot(cores[-1], before, 1)
    left = [n for n in range(train.ndim) if n not in weights]
    result = TensorTrain(
        tuple(cores),
        n_entries_read=train.n_entries_read,
        error_estimate=train.error_estimate,
        converged=train.converged,
        names=tuple(train.names[n] for n in left),
        dims=tuple(train.dims[n] for n in left) if train.dims else (),
    )
    return in_kind(result, find_tensor(train.cores[0]))


def rescaled(M):
    """An array divided by the power of two above its largest modulus, and the exponent of that."""
    largest = float(np.abs(M).max(initial=0))
    if largest == 0:
        return M, 0
    exponent = int(np.frexp(largest)[1])
    half = exponent // 2  # in two steps, neither of which overflows
    return M * 2.0**-half * 2.0 ** (half - exponent), exponent


def scaled_number(value, exponent):
    """A number of Python times a power of two."""
    value = complex(value)
    real, imaginary = (float(np.ldexp(part, exponent)) for part in (value.real, value.imag))
    return complex(real, imaginary) if imaginary else real


def inner_product(first, second):
    """The inner product of two tensor trains by their cores, as a number and the exponent of a power of two."""
    carried, exponent = np.ones((1, 1)), 0
    for A, B in zip(first, second, strict=True):
        half = np.tensordot(carried, B, (1, 0))  # (a, d, b')
        carried, more = rescaled(np.tensordot(A.conj(), half, ((0, 1), (0, 1))))
        exponent += more
    return carried[0, 0], exponent


def orthogonalised(cores):
    """Cores of the same tensor but for a power of two, all but the last with orthonormal columns; its exponent."""
    found, exponent = [], 0
    R = np.ones((1, 1), cores[0].dtype)
    for n, core in enumerate(cores):
        core = np.tensordot(R, core, 1)
        if n < len(cores) - 1:
            Q, R = np.linalg.qr(core.reshape(-1, core.shape[2]))
            R, more = rescaled(R)
            core, exponent = Q.reshape(*core.shape[:2], -1), exponent + more
        found.append(core)
    return found, exponent


def backward_cores(cores):
    """Cores of the tensor with its modes in the opposite order."""
    return [core.transpose(2, 1, 0) for core in cores[::-1]]


def rounded(cores, rtol, most):
    """Cores of lower ranks, the norm of what is cut off and of all, both over the same power of two ([1], Alg. 2)."""
    cores, exponent = orthogonalised(backward_cores(cores))
    cores = backward_cores(cores)
    total, lost = np.linalg.norm(cores[0]), 0.0
    cutting = 0 if rtol is None else rtol * total / math.sqrt(max(len(cores) - 1, 1))
    for n in range(len(cores) - 1):
        core = cores[n]
        U, s, Vh = np.linalg.svd(core.reshape(-1, core.shape[2]), full_matrices=False)
        rank = kept(s, cutting) if most is None else min(most[n], len(s))
        lost = np.hypot(lost, np.linalg.norm(s[rank:]))
        cores[n] = U[:, :rank].reshape(*core.shape[:2], rank)
        cores[n + 1] = np.tensordot(s[:rank, None] * Vh[:rank], cores[n + 1], 1)
    half = exponent // 2
    cores[-1] = cores[-1] * cores[-1].dtype.type(2.0**half) * cores[-1].dtype.type(2.0 ** (exponent - half))
    return cores, lost, total


def largest_ranks(shape):
    """The rank that each unfolding (d_0 ... d_n) x (d_{n+1} ...) of a tensor can have."""
    return tuple(min(math.prod(shape[: n + 1]), math.prod(shape[n + 1 :])) for n in range(len(shape) - 1))


def train_ranks(ranks, shape) -> tuple[int, ...]:
    """N - 1 ranks, each between 1 and the most there can be; an int stands for all, as far as that."""
    most = largest_ranks(shape)
    if not np.iterable(ranks):
        rank = _validation.integer(ranks, "ranks", 1, max(most))
        return tuple(min(rank, limit) for limit in most)
    if isinstance(ranks, (str, bytes)):
        raise _validation.complain(
            TypeError, "ranks", f"an integer or {len(most)} integers", _validation.describe(ranks)
        )
    ranks = tuple(ranks)
    if len(ranks) != len(most):
        what = f"one for each of {len(most)} pairs of neighbouring modes"
        raise _validation.complain(ValueError, "ranks", what, _validation.describe(ranks))
    return tuple(
        _validation.integer(rank, f"ranks[{n}]", 1, limit)
        for n, (rank, limit) in enumerate(zip(ranks, most, strict=True))
    )


def train_ranks_or_rtol(ranks, rtol, shape, dtype):
    """The pair with exactly one of the two given, checked."""
    if (ranks is None) == (rtol is None):
        got = "neither" if ranks is None else "both"
        raise _validation.complain(ValueError, "ranks or rtol", "given, one of the two", got)
    return (None, _validation.tolerance(rtol, dtype)) if ranks is None else (train_ranks(ranks, shape), None)


def mode_list(modes, ndim) -> list[int]:
    """Distinct modes in order, all of them for None; negative ones count from the last."""
    if modes is None:
        return list(range(ndim))
    modes = list(modes) if np.iterable(modes) else [modes]
    modes = [_validation.integer(mode, "each of modes", -ndim, ndim - 1) % ndim for mode in modes]
    if len(set(modes)) < len(modes):
        raise _validation.complain(ValueError, "modes", "distinct", _validation.describe(modes))
    return modes


def weight_list(weights, lengths):
    """Arrays of finite numbers of some lengths."""
    weights = list(weights)
    if len(weights) != len(lengths):
        raise _validation.complain(ValueError, "weights", f"one array for each of {len(lengths)} modes", len(weights))
    found = []
    for n, (own, length) in enumerate(zip(weights, lengths, strict=True)):
        own = plain_array(own, f"weights[{n}]")
        own = own.astype(_validation.array_dtype(own.dtype, f"weights[{n}]"))
        if own.shape != (length,):
            raise _validation.complain(ValueError, f"weights[{n}]", f"of shape ({length},)", own.shape)
        if not np.isfinite(own).all():
            raise _validation.complain(ValueError, f"weights[{n}]", "finite", "NaN or infinity")
        found.append(own)
    return found


def index_arrays(indices, shape):
    """Broadcastable arrays of integers within the lengths of the modes, one for each; negative ones from the end."""
    indices = list(indices)
    if len(indices) != len(shape):
        raise _validation.complain(ValueError, "indices", f"one for each of {len(shape)} modes", len(indices))
    found = []
    for n, (index, length) in enumerate(zip(indices, shape, strict=True)):
        index = plain_array(index, f"indices[{n}]")
        if index.dtype.kind not in "iu":
            raise _validation.complain(TypeError, f"indices[{n}]", "integers", f"dtype {index.dtype}")
        if index.size and not -length <= index.min() <= index.max() < length:
            got = f"{index.min()} to {index.max()}"
            raise _validation.complain(ValueError, f"indices[{n}]", f"from {-length} to {length - 1}", got)
        found.append(index.astype(np.intp) % length)
    try:
        np.broadcast_shapes(*(index.shape for index in found))
    except ValueError:
        shapes = _validation.describe([index.shape for index in found])
        raise _validation.complain(ValueError, "indices", "of shapes that broadcast", shapes) from None
    return found


def shortened(numbers):
    """Some numbers, the middle ones left out where they are many."""
    shown = list(map(str, numbers))
    return " x ".join(shown if len(shown) <= 8 else [*shown[:3], "...", *shown[-3:], f"({len(shown)})"])
