"""Tensors on any device: products on the device in the tensor's dtype, results and slices as NumPy arrays.

Half precision, integers and bool are widened panel by panel (to float32 and float64), never whole.
"""

import numpy as np
import torch

from curtensor import _validation
from curtensor.operands import dense, row_slices

PANEL_BYTES = 2**24
HALF = {torch.float16: np.dtype("float32"), torch.bfloat16: np.dtype("float32")}


def wrap(A):
    """A detached view of a dense two-dimensional tensor of numbers that has data."""
    if not isinstance(A, torch.Tensor):
        raise _validation.complain(TypeError, "A", "an array, a sparse matrix or a DataFrame", type(A))
    if A.layout != torch.strided or A.is_quantized:
        raise _validation.complain(TypeError, "A", "a dense tensor", f"{A.layout}, {A.dtype}")
    if A.is_meta:
        raise _validation.complain(ValueError, "A", "a tensor with data", "one on the meta device")
    _validation.matrix_shape(A.shape)
    dtype(A)
    return A.detach()


def dtype(A):
    """The dtype to compute in: half precision as float32."""
    if A.dtype in HALF:
        return HALF[A.dtype]
    try:
        kind = np.dtype(str(A.dtype).removeprefix("torch."))
    except TypeError:
        what = f"a tensor of integers, bool, half precision, {', '.join(_validation.DTYPES)}"
        raise _validation.complain(TypeError, "A", what, f"dtype {A.dtype}") from None
    return _validation.array_dtype(kind)


def matmat(A, X):
    """``A @ X``."""
    X = on_device(X, A)
    return to_numpy(torch.cat([panel @ X for _, panel in device_panels(A)]))


def rmatmat(A, Y):
    """``A^H @ Y``."""
    Y = on_device(Y, A)
    Y = Y.conj().resolve_conj()  # the thin one: A conjugated would be a copy where it is in Fortran order
    return to_numpy(sum(panel.mT @ Y[rows] for rows, panel in device_panels(A)).conj())


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm."""
    square = sum(float(torch.linalg.vector_norm(real_view(panel)).double()) ** 2 for _, panel in small_panels(A))
    return rmatmat(A, Y), matmat(A, X), square


def take(A, indices, axis):
    """Rows (axis 0) or columns (axis 1) as a NumPy array."""
    indices = torch.as_tensor(np.asarray(indices, dtype=np.int64), device=A.device)
    return to_numpy(torch.index_select(A, axis, indices).to(torch_dtype(A)))


def rows(A, start, stop):
    """Rows from one number to another as a NumPy array."""
    return to_numpy(A[start:stop].to(torch_dtype(A)))


def panels(A):
    """Contiguous panels of rows as NumPy arrays with their slices."""
    for rows, panel in small_panels(A):
        yield rows, np.ascontiguousarray(to_numpy(panel))


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    for rows, panel in small_panels(A):
        if torch.isfinite(panel.sum()):  # no sum loses NaN or infinity, and it costs a tenth
            continue
        bad = ~torch.isfinite(panel)
        if bad.any():
            i, j = np.unravel_index(int(bad.flatten().int().argmax()), bad.shape)
            return int(rows.start + i), int(j)
    return None


def largest(A):
    """Largest modulus of a real or imaginary part."""
    return max(float(real_view(panel).abs().max()) for _, panel in small_panels(A))


def diagonal(A):
    """The diagonal as a NumPy array."""
    return to_numpy(A.diagonal().to(torch_dtype(A)))


def device_panels(A):
    """The whole tensor where products take it as it lies, else panels of rows copied to the dtype of the products."""
    if A.dtype == torch_dtype(A) and 1 in A.stride() and not A.is_conj() and not A.is_neg():
        yield slice(0, len(A)), A
    else:
        yield from small_panels(A)


def small_panels(A):
    """Panels of rows on the device, in the dtype to compute in."""
    kind = dtype(A)
    for rows in row_slices(A.shape, A.numel() * A.element_size(), kind.itemsize, PANEL_BYTES):
        yield rows, A[rows].to(torch_dtype(A))


def torch_dtype(A):
    """The tensor library's own name of the dtype to compute in."""
    return getattr(torch, dtype(A).name)


def on_device(X, A):
    """A thin NumPy or sparse matrix as a tensor beside A."""
    return torch.from_numpy(np.array(dense(X), dtype=dtype(A))).to(A.device)


def to_numpy(X):
    """A tensor as a NumPy array on the host."""
    return X.resolve_conj().resolve_neg().cpu().numpy()


def real_view(X):
    """Real and imaginary parts as one real tensor."""
    return torch.view_as_real(X.resolve_conj()) if X.is_complex() else X
