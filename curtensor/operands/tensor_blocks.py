"""What tensors of most kinds have in common: all that is done block by block.

A tensor is seen as (L, d, R): the modes before the one in question, that mode, and the modes after, in the order in
which they lie in memory. Where it cannot be seen so (gaps, negative strides, another dtype, a store), blocks of it are
copied in turn.
"""

import math

import numpy as np
from scipy import sparse
from scipy.linalg import blas

from curtensor.operands import on_host

TILE = 64  # rows and columns mirrored at a time


class InBlocks:
    """A tensor that can be had in blocks; all else of `contract.Tensor` follows from these, if not always fastest.

    A kind has `shape`, `dtype`, `axes` (the modes from the farthest apart in memory to the nearest), `blocks`, `parts`
    and `beside`.
    """

    in_memory = True
    sparse = False
    fibre_bytes = 2**20

    @property
    def ndim(self):
        """Number of modes."""
        return len(self.shape)

    @property
    def size(self):
        """Number of entries."""
        return math.prod(self.shape)

    def forms_gram(self, mode):
        """Whether a Gram matrix of a mode has no more entries than the tensor."""
        return self.shape[mode] ** 2 <= self.size

    def mode_products(self, matrices):
        """The tensor times a matrix in each of some modes; what shrinks it at the least cost comes first."""
        Y = self
        # a before b costs J_a + J_b J_a / d_a an entry, b before a J_b + J_a J_b / d_b
        for mode in sorted(matrices, key=lambda mode: 1 / matrices[mode].shape[1] - 1 / matrices[mode].shape[0]):
            Y = Y.mode_product(matrices[mode], mode)
        return Y

    def mode_product(self, M, mode):
        """The tensor times a matrix of floats in one mode, block by block."""
        kind = np.result_type(self.dtype, M.dtype)
        shape = *self.shape[:mode], len(M), *self.shape[mode + 1 :]
        product = np.empty([shape[axis] for axis in self.axes], kind).transpose(np.argsort(self.axes))
        for place, block in self.blocks(mode, kind):
            product[place] = block.mode_product(M, mode).X
        return self.beside(product)

    def thin(self, M):
        """A matrix or vector that the tensor is multiplied by, as an array that goes with it."""
        return on_host(M)

    def mode_gram(self, mode, exponent=0):
        """Gram matrix of a mode of 2^exponent times the tensor, in double precision, from pieces of the unfolding."""
        L, d, R = self.three_way(mode)
        kind = np.result_type(self.dtype, float)
        update = blas.get_blas_funcs("herk" if kind.kind == "c" else "syrk", dtype=kind)
        adjoint = 2 if kind.kind == "c" else 1
        last = R == 1 and L > 1
        total = np.zeros((d, d), kind, order="F")
        for piece in self.pieces(mode, exponent):
            if last:
                total = update(1, piece, lower=1, beta=1, c=total, overwrite_c=1)
            else:  # piece.T in Fortran order: the conjugate of G, in the upper triangle
                total = update(1, piece.T, trans=adjoint, beta=1, c=total, overwrite_c=1)
        return hermitian(total if last else total.T)

    def pieces(self, mode, exponent=0, width=None):
        """Pieces (d, p) of the unfolding of 2^exponent times the tensor in double precision, contiguous.

        In C order, but in Fortran order for the last mode; as wide as there is room for, or of about the given width.
        """
        for _, block in self.blocks(mode, np.result_type(self.dtype, float)):
            yield from block.pieces(mode, exponent, width)

    def first_nonfinite(self):
        """Index of the first NaN or infinity in reading order, or None."""
        found = []
        for place, block in self.blocks(self.ndim - 1, self.dtype):
            bad = ~np.isfinite(block.X)
            if bad.any():
                index = np.unravel_index(bad.argmax(), bad.shape)
                found.append(tuple(int(cut.start or 0) + int(i) for cut, i in zip(place, index, strict=True)))
        return min(found, default=None)

    def is_finite(self):
        """Whether there is neither NaN nor infinity."""
        return self.first_nonfinite() is None

    def largest(self):
        """Largest modulus of a real or imaginary part."""
        return max(part.largest() for _, part in self.parts())

    def residual(self, core, factors, scale=1):
        """Norms of what a Tucker tensor leaves of this one, and of this one, both over a scale; part by part."""
        core, factors = self.beside(core), [self.beside(factor).X for factor in factors]
        norms = []
        for place, part in self.parts():
            product = core.mode_products({mode: U[place[mode], :] for mode, U in enumerate(factors)})
            norms.append([part.over(scale).norm(), self.beside(part.X - product.X).over(scale).norm()])
        whole, rest = np.linalg.norm(norms, axis=0)
        return float(rest), float(whole)

    def projected(self, factors):
        """Core of the best approximation with orthonormal factors, part by part."""
        adjoints = [self.beside(np.ascontiguousarray(Q.conj().T)).X for Q in factors]
        total = 0
        for place, part in self.parts():
            total = total + part.mode_products({mode: Q[:, place[mode]] for mode, Q in enumerate(adjoints)}).X
        return self.beside(total).host().X

    def three_way(self, mode):
        """Lengths (L, d, R) before, in and after a mode, in memory order."""
        shape = [self.shape[axis] for axis in self.axes]
        place = self.axes.index(mode)
        return math.prod(shape[:place]), shape[place], math.prod(shape[place + 1 :])


def hermitian(G):
    """G, of which only the lower triangle is filled, completed in tiles that stay in the cache."""
    for start in range(0, len(G), TILE):
        stop = start + TILE
        G[:start, start:stop] = G[start:stop, :start].conj().T
        tile = G[start:stop, start:stop]
        diagonal = tile.diagonal().copy()
        tile += tile.conj().T
        np.fill_diagonal(tile, diagonal)
    return G


def norm(piece):
    """Frobenius norm of a piece of an unfolding, dense or sparse."""
    return float(np.linalg.norm(piece.data if sparse.issparse(piece) else piece))
