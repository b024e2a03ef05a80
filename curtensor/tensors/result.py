"""What decompositions give back that consist of a core and a factor for each mode: Tucker and tensor CUR."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curtensor import _validation, archive, plots
from curtensor.operands import find_tensor, on_host
from curtensor.results import Result, in_kind
from curtensor.tensors.unfolding import mode_product, mode_products, unfold


@dataclass(frozen=True, eq=False, repr=False)
class CoreAndFactors(Result):
    """A core times a factor in each mode, which unpacks to ``core, factors``: a Tucker tensor as TensorLy knows it."""

    core: np.ndarray
    factors: tuple[np.ndarray, ...]

    MAIN = "core"

    def __iter__(self) -> Iterator:
        """The core and the factors."""
        return iter((self.core, self.factors))

    def __len__(self) -> int:
        """Two: the core and the factors."""
        return 2

    @property
    def ranks(self) -> tuple[int, ...]:
        """Lengths of the core."""
        return self.core.shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (d_0, ..., d_{N-1}) of the approximation."""
        return tuple(factor.shape[0] for factor in self.factors)

    def to_array(self) -> np.ndarray:
        """The approximation as a dense array."""
        return mode_products(self.core, dict(enumerate(self.factors)))

    def to_tensorly(self) -> Any:
        """The approximation as a `tensorly.tucker_tensor.TuckerTensor`."""
        from tensorly.tucker_tensor import TuckerTensor

        return TuckerTensor((self.core, list(self.factors)))

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """The core, the factors and the error in a file."""
        core = archive.numbers(members, "core", None)
        ranks = _validation.tensor_shape(core.shape, "core")
        factors = tuple(archive.numbers(members, f"factors.{n}", (None, rank)) for n, rank in enumerate(ranks))
        _validation.tensor_shape(map(len, factors))
        return {"core": core, "factors": factors, "error_estimate": archive.scalar(members, "error_estimate", "f")}


@dataclass(frozen=True, eq=False, repr=False)
class Tucker(CoreAndFactors):
    """A Tucker decomposition, which unpacks to ``core, factors``.

    X is close to ``core x_0 factors[0] x_1 factors[1] ...``.

    Attributes
    ----------
    core : array, shape (r_0, ..., r_{N-1})
        Coefficients in the factors' bases.
    factors : tuple of arrays, shapes (d_n, r_n)
        Orthonormal columns.
    error_estimate : float
        ``||X - approximation||_F / ||X||_F``: exact up to rounding, where it comes from Gram matrices above 1e-7.
    names : tuple of (pandas Index or ndarray of str or None)
        Names of all slices of each mode, None where X has none: the coordinates of a DataArray along its dimensions,
        the index and the columns of a DataFrame.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    error_estimate: float

    def plot(self, *, ax: Any = None, rtol: float | None = None) -> Any:
        """Draw the share of the squared norm that the first 1, 2, ... vectors of each mode explain, with matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.
        rtol : float, optional
            A relative error, 0 to 1, at which a line is drawn.

        Returns
        -------
        ax : matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        core = np.abs(on_host(self.core)).astype(float)
        energy = (core / (core.max() or 1)) ** 2
        whole = (energy.sum() or 1) / (1 - self.error_estimate**2 or 1)
        curves = {
            self.dims[mode] if self.dims else f"mode {mode}": unfold(energy, mode).sum(axis=1).cumsum() / whole
            for mode in range(self.ndim)
        }
        return plots.draw_shares(ax, curves, "number of vectors of the mode", rtol=rtol)


@dataclass(frozen=True, eq=False, repr=False)
class TensorCUR(CoreAndFactors):
    """A tensor CUR, which unpacks to ``core, factors``: a Tucker tensor as TensorLy knows it.

    X is close to ``core x_0 factors[0] x_1 factors[1] ...``.

    Attributes
    ----------
    core : array, shape (s_0, ..., s_{N-1})
        ``X[np.ix_(*indices)]`` to the bit for the intersection core.
    factors : tuple of arrays, shapes (d_n, s_n)
        Interpolation of each mode from its chosen slices.
    indices : tuple of ndarray of int
        The chosen slices of each mode, distinct, in the order of choice.
    n_entries_read : int
        Entries of X read in all, those read twice counted twice; of a function those asked for.
    error_estimate : float
        ``||X - approximation||_F / ||X||_F``; see `tensor_cur`.
    converged : bool
        Whether the choice settled and the error is at most 1.5 times what the truncated HOSVD of the same ranks was
        seen to leave, or rounding; False where nothing but zeros was seen of a function.
    names : tuple of (pandas Index or ndarray of str or None)
        Names of the chosen slices of each mode, None where X has none: the coordinates of a DataArray along its
        dimensions, the index and the columns of a DataFrame.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    indices: tuple[np.ndarray, ...]
    n_entries_read: int
    error_estimate: float
    converged: bool

    @property
    def chosen(self) -> tuple[np.ndarray, ...]:
        """The indices of the chosen slices of each mode."""
        return self.indices

    def plot(self, *, ax: Any = None) -> Any:
        """Draw the chosen slices of each mode as marks along a line, with matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        ax : matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        title = f"Chosen slices of a {' x '.join(map(str, self.shape))} tensor"
        return plots.draw_modes(ax, self.shape, self.indices, self.dims, title)

    def to_tucker(self, ranks: int | Sequence[int] | None = None) -> Tucker:
        """The approximation as a Tucker tensor with orthonormal factors, by ST-HOSVD of the small core.

        ``ranks`` may cut it to lower multilinear ranks; without, nothing but rounding is lost. Its `error_estimate` is
        this one and what the cut leaves out, which is at most their sum.
        """
        bases, triangles = zip(*(np.linalg.qr(on_host(factor)) for factor in self.factors), strict=True)
        core = mode_products(on_host(self.core), dict(enumerate(triangles)))
        ranks = core.shape if ranks is None else _validation.multilinear_ranks(ranks, core.shape)
        scale = np.abs(core).max() or 1
        total, lost = np.linalg.norm(core / scale), 0.0
        factors = []
        for mode, (basis, rank) in enumerate(zip(bases, ranks, strict=True)):
            W, s, _ = np.linalg.svd(unfold(core, mode), full_matrices=False)
            lost = np.hypot(lost, np.linalg.norm(s[rank:] / scale))
            core = mode_product(core, W[:, :rank].conj().T, mode)
            factors.append(basis @ W[:, :rank])
        # relative to the approximation, which is at most 1 + error_estimate times as long as X
        error = self.error_estimate + lost / (total or 1) * (1 + self.error_estimate)
        tucker = Tucker(core, tuple(factors), float(error), dims=self.dims)
        return in_kind(tucker, find_tensor(self.core))

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """The core, the factors, the indices and what is known of the error in a file."""
        found = CoreAndFactors._checked(members)
        factors = found["factors"]
        each = (archive.indices(members, f"indices.{n}", *factor.shape[::-1]) for n, factor in enumerate(factors))
        read, converged = (
            archive.scalar(members, name, kind) for name, kind in (("n_entries_read", "i"), ("converged", "b"))
        )
        return found | {"indices": tuple(each), "n_entries_read": read, "converged": converged}
