"""What a tensor CUR gives back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curtensor import _validation, archive, operands
from curtensor.tensors.unfolding import mode_product, mode_products, unfold


@dataclass(frozen=True, eq=False)
class TensorCUR:
    """A tensor CUR, which unpacks to ``core, factors``: a Tucker tensor as TensorLy knows it.

    X is close to ``core x_0 factors[0] x_1 factors[1] ...``.

    Attributes
    ----------
    core : ndarray, shape (s_0, ..., s_{N-1})
        ``X[np.ix_(*indices)]`` to the bit for the intersection core.
    factors : list of ndarray, shapes (d_n, s_n)
        Interpolation of each mode from its chosen slices.
    indices : list of ndarray of int
        The chosen slices of each mode, distinct, in the order of choice.
    n_entries_read : int
        Entries of X read in all, those read twice counted twice.
    error_estimate : float
        ``||X - approximation||_F / ||X||_F``; see `tensor_cur`.
    converged : bool
        Whether the choice settled and the error is at most 1.5 times what the truncated HOSVD of the same ranks was
        seen to leave, or rounding; False where nothing but zeros was seen of a function.
    names : list of (ndarray of str or None)
        Names of the chosen slices of each mode, None where X has none: the coordinates of a DataArray along its
        dimensions, the index and the columns of a DataFrame.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    core: np.ndarray
    factors: list[np.ndarray]
    indices: list[np.ndarray]
    n_entries_read: int
    error_estimate: float
    converged: bool
    names: Sequence[np.ndarray | None] = ()
    dims: tuple[str, ...] = ()

    __repr__ = operands.short_repr

    def __iter__(self):
        """The core and the factors."""
        return iter((self.core, self.factors))

    def __len__(self):
        """Two: the core and the factors."""
        return 2

    @property
    def shape(self):
        """Shape of the approximation."""
        return tuple(len(factor) for factor in self.factors)

    @property
    def dtype(self):
        """Dtype of the approximation."""
        return self.core.dtype

    @property
    def nbytes(self):
        """Bytes of all arrays held."""
        return self.core.nbytes + sum(array.nbytes for array in [*self.factors, *self.indices])

    def to_array(self):
        """The approximation as an array."""
        return mode_products(self.core, dict(enumerate(self.factors)))

    def to_tucker(self, ranks=None):
        """The approximation as a Tucker tensor with orthonormal factors, by ST-HOSVD of the small core.

        ``ranks`` may cut it to lower multilinear ranks; without, nothing but rounding is lost.
        """
        bases, triangles = zip(*(np.linalg.qr(factor) for factor in self.factors), strict=True)
        core = mode_products(self.core, dict(enumerate(triangles)))
        ranks = core.shape if ranks is None else _validation.multilinear_ranks(ranks, core.shape)
        factors = []
        for mode, (basis, rank) in enumerate(zip(bases, ranks, strict=True)):
            W = np.linalg.svd(unfold(core, mode), full_matrices=False)[0][:, :rank]
            core = mode_product(core, W.conj().T, mode)
            factors.append(basis @ W)
        return core, factors

    def to_tensorly(self):
        """The approximation as a `tensorly.tucker_tensor.TuckerTensor`."""
        from tensorly.tucker_tensor import TuckerTensor

        return TuckerTensor((self.core, list(self.factors)))

    def save(self, path):
        """Write to an npz file, whole or not at all; `TensorCUR.load` reads it, without pickle."""
        archive.write(path, "TensorCUR", vars(self) | {"dims": np.array(self.dims, dtype=str) if self.dims else None})

    @classmethod
    def load(cls, path):
        """Read what `save` wrote."""
        with archive.written_by("TensorCUR", path) as parts:
            core = archive.numbers(parts, "core", None)
            sizes = _validation.tensor_shape(core.shape, "core")
            factors = [archive.numbers(parts, f"factors.{n}", (None, size)) for n, size in enumerate(sizes)]
            _validation.tensor_shape(map(len, factors))
            dims = archive.labels(parts, "dims", len(sizes))
            return cls(
                core,
                factors,
                [archive.indices(parts, f"indices.{n}", *factor.shape[::-1]) for n, factor in enumerate(factors)],
                archive.scalar(parts, "n_entries_read", "i"),
                archive.scalar(parts, "error_estimate", "f"),
                archive.scalar(parts, "converged", "b"),
                [archive.labels(parts, f"names.{n}", size) for n, size in enumerate(sizes)],
                () if dims is None else tuple(dims.tolist()),
            )
