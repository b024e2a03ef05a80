"""Arrays of any framework of the array API standard: PyTorch, JAX, CuPy, array-api-strict and others alike.

The large products run in the array's own framework and on its device; thin matrices go there as NumPy arrays and come
back so, but those which are of the framework already stay in it, and gradients follow them. Half precision, integers
and bool are widened panel by panel (to float32 and float64), never whole.
"""

import sys

import array_api_compat as compat
import numpy as np
from scipy import sparse

from curtensor import _validation
from curtensor.operands.arithmetic import dense, row_slices, times_power
from curtensor.operands.usual import copies_multiples as copies_multiples
from curtensor.operands.usual import knows_norm as knows_norm

PANEL_BYTES = 2**24
HALF = ("float16", "bfloat16")


def wrap(A):
    """A as it is, checked, and cut off from what gradients follow."""
    return untraced(checked_array(A), "A")


def checked_array(A):
    """A dense two-dimensional array of numbers that has data."""
    A = array_of_numbers(A, "A")
    _validation.matrix_shape(A.shape)
    return A


def untraced(A, name):
    """An array that has entries to choose by, cut off from what gradients follow."""
    A = cut_off(A)
    if traced(A):
        what = "an array with entries (choose outside of jit, vmap and torch.func, and go on with cur_from_indices)"
        raise _validation.complain(TypeError, name, what, "a traced one")
    return A


def array_of_numbers(A, name):
    """A dense array of numbers, of any shape, that has data."""
    if compat.is_torch_array(A) and (A.layout != sys.modules["torch"].strided or A.is_quantized or A.is_nested):
        got = f"{'nested, ' if A.is_nested else ''}{A.layout}, {A.dtype}"
        raise _validation.complain(TypeError, name, "a dense tensor", got)
    if compat.is_torch_array(A) and A.is_meta:
        raise _validation.complain(ValueError, name, "a tensor with data", "one on the meta device")
    if not (hasattr(A, "__dlpack__") or traced(A)):
        what = "an array whose framework hands on its data by DLPack"
        raise _validation.complain(TypeError, name, what, type(A))
    dtype(A, name)
    return A


def cut_off(A):
    """The same entries, through which no gradient goes; some are not to be seen even so."""
    if not differentiated(A):
        return A
    return A.detach() if compat.is_torch_array(A) else sys.modules["jax"].lax.stop_gradient(A)


def differentiated(A):
    """Whether a gradient may be asked for of what is computed with A."""
    if traced(A) or not compat.is_torch_array(A):
        return traced(A)
    return A.requires_grad or sys.modules["torch"].autograd.forward_ad.unpack_dual(A).tangent is not None


def traced(A):
    """Whether A stands for entries that are not to be seen: within jax.jit, jax.vmap, torch.func.grad and the like."""
    if not compat.is_torch_array(A):
        return compat.is_jax_array(A) and isinstance(A, sys.modules["jax"].core.Tracer)
    try:
        A.data_ptr()
    except RuntimeError:
        return not A.is_sparse
    return False


def dtype(A, name="A"):
    """The dtype to compute in: half precision as float32, and integers so where the device has no float64."""
    own = str(A.dtype).rpartition(".")[2]
    if own in HALF:
        return np.dtype("float32")
    try:
        kind = _validation.array_dtype(np.dtype(own))
    except TypeError:
        what = f"an array of integers, bool, half precision, {', '.join(_validation.DTYPES)}"
        raise _validation.complain(TypeError, name, what, f"dtype {A.dtype}") from None
    return kind if knows(A, kind) else np.dtype("float32")


def knows(A, kind):
    """Whether A's device has a dtype."""
    info = compat.array_namespace(A).__array_namespace_info__()
    return kind.name in info.dtypes(device=None if compat.is_jax_array(A) else compat.device(A))


def own_dtype(A):
    """The framework's name of the dtype to compute in."""
    return getattr(compat.array_namespace(A), dtype(A).name)


def matmat(A, X):
    """``A @ X``."""
    thin, back = thin_beside(X, A)
    if thin is X:
        return compat.array_namespace(A).concat([product(panel, X) for _, panel in device_panels(A)])
    whole = np.empty((A.shape[0], X.shape[1]), dtype(A))  # parts kept between panels would leave no room for the next
    for rows, panel in device_panels(A):
        whole[rows, :] = back(product(panel, thin))
    return whole


def rmatmat(A, Y):
    """``A^H @ Y``."""
    Y, back = thin_beside(Y, A)
    return back(
        conjugate_transpose(sum(product(conjugate_transpose(Y[rows, :]), panel) for rows, panel in device_panels(A)))
    )


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm."""
    return rmatmat(A, Y), matmat(A, X), squared_norm(A)


def squared_norm(A, exponent=0):
    """``||2^exponent A||_F^2``, summed over the rows' in float64."""
    norm = compat.array_namespace(A).linalg.vector_norm
    lengths = (to_numpy(norm(times_power(panel, exponent), axis=1)).astype(float) for _, panel in small_panels(A))
    return float(sum(length @ length for length in lengths))


def take(A, indices, axis):
    """Rows (axis 0) or columns (axis 1) as a NumPy array."""
    return to_numpy(computable(own_slices(A, indices, axis), A))


def own_slices(A, indices, axis):
    """Rows or columns in A's own kind and dtype."""
    if compat.is_torch_array(A) and A.is_conj():
        return own_slices(A.conj(), indices, axis).conj()  # else all of it is conjugated first
    xp = compat.array_namespace(A)
    indices = xp.asarray(np.array(indices, dtype=np.int64), device=place(A))
    if compat.is_torch_array(A):  # whose own function copies all of what is not contiguous
        part = signed(A)[indices] if axis == 0 else signed(A)[:, indices]
        return part if part.dtype == A.dtype else part.view(A.dtype)
    return xp.take(A, indices, axis=axis)


def signed(A):
    """An array; unsigned integers of PyTorch by their bits as signed ones, which alone it takes slices of on a GPU."""
    name = str(A.dtype).rpartition(".")[2]
    if compat.is_torch_array(A) and name in ("uint16", "uint32", "uint64"):
        return A.view(getattr(sys.modules["torch"], name[1:]))
    return A


def rows(A, start, stop):
    """Rows from one number to another as a NumPy array."""
    return to_numpy(computable(A[start:stop, :], A))


def take_and_rmatmat(A, indices, Y):
    """Rows of A, and ``A^H @ Y``."""
    return take(A, indices, 0), rmatmat(A, Y)


def normal_product(A, X):
    """``A^H @ (A @ X)``."""
    return rmatmat(A, matmat(A, X))


def images_and_norms(A, Y, X, exponent=0):
    """``A^H @ Y``, ``A @ X``, and of 2^exponent A the squared norms of rows and of columns, added up in float64."""
    norm = compat.array_namespace(A).linalg.vector_norm
    of_rows, of_columns = np.empty(A.shape[0]), np.zeros(A.shape[1])
    for rows, panel in small_panels(A):
        panel = times_power(panel, exponent)
        of_rows[rows] = to_numpy(norm(panel, axis=1)).astype(float) ** 2
        of_columns += to_numpy(norm(panel, axis=0)).astype(float) ** 2
    return rmatmat(A, Y), matmat(A, X), of_rows, of_columns


def panels(A):
    """Contiguous panels of rows as NumPy arrays with their slices."""
    for rows, panel in small_panels(A):
        yield rows, np.ascontiguousarray(to_numpy(panel))


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    xp = compat.array_namespace(A)
    for rows, panel in small_panels(A):
        if xp.isfinite(xp.sum(panel)):  # no sum loses NaN or infinity, and it costs a tenth
            continue
        bad = ~to_numpy(xp.isfinite(panel))
        if bad.any():
            i, j = np.unravel_index(bad.argmax(), bad.shape)
            return int(rows.start + i), int(j)
    return None


def largest(A):
    """Largest modulus of a real or imaginary part."""
    xp = compat.array_namespace(A)
    return float(np.max([float(xp.max(xp.abs(part))) for _, panel in small_panels(A) for part in real_parts(panel)]))


def diagonal(A):
    """The diagonal as a NumPy array."""
    return to_numpy(computable(compat.array_namespace(A).linalg.diagonal(A), A))


def like(A, X, own=False):
    """X as an array of A's framework, on A's device, and, for own slices of A in half precision, of its dtype."""
    xp = compat.array_namespace(A)
    X = xp.asarray(np.array(X), device=place(A))
    return xp.astype(X, A.dtype) if own and str(A.dtype).endswith(HALF) else X


def device_panels(A):
    """The whole array where products take it as it lies, else panels of rows copied to the dtype of the products."""
    if A.dtype == own_dtype(A) and multiplies_uncopied(A):
        yield slice(0, A.shape[0]), A
    else:
        yield from small_panels(A)


def multiplies_uncopied(A):
    """Whether a product copies nothing of A, as PyTorch does of one with large steps, or conjugated by a flag alone."""
    return not compat.is_torch_array(A) or traced(A) or (1 in A.stride() and not A.is_conj() and not A.is_neg())


def by_columns(A):
    """Whether A's columns are closer together in memory than its rows, so that panels of A.T are cheaper."""
    return compat.is_torch_array(A) and A.stride()[0] < A.stride()[1]


def small_panels(A):
    """Panels of rows on the device, in the dtype to compute in."""
    itemsize = dtype(A).itemsize
    for rows in row_slices(A.shape, A.shape[0] * A.shape[1] * itemsize, itemsize, PANEL_BYTES):
        yield rows, computable(A[rows, :], A)


def computable(X, A):
    """X in the dtype to compute in with A."""
    kind = own_dtype(A)
    return X if X.dtype == kind else compat.array_namespace(X).astype(X, kind)


def thin_beside(X, A):
    """A thin matrix as an array beside A, and the function that takes a product with it to where the matrix was."""
    if isinstance(X, np.ndarray) or sparse.issparse(X):
        return like(A, np.asarray(dense(X), dtype=dtype(A))), to_numpy
    return X, lambda product: product


def place(A):
    """The device for what goes with A; JAX itself places what goes with an array on several, or with a traced one."""
    device = compat.device(A)
    return device if not compat.is_jax_array(A) or isinstance(device, sys.modules["jax"].Device) else None


def to_numpy(X):
    """An array of a framework on the host, writeable; half precision, which NumPy has not or not wholly, as float32."""
    X = computable(cut_off(X), X) if str(X.dtype).endswith(HALF) else cut_off(X)
    if compat.is_torch_array(X):
        X = X.resolve_conj().resolve_neg()
    if compat.is_torch_array(X) or compat.is_cupy_array(X):
        host = "cpu"
    else:
        host = compat.array_namespace(X).__array_namespace_info__().default_device()
    return np.require(compat.to_device(X, host), requirements="W")


def product(X, Y):
    """``X @ Y`` in full precision, of which JAX by itself keeps but a part on GPU and TPU."""
    if compat.is_jax_array(X):
        return sys.modules["jax"].numpy.matmul(X, Y, precision="highest")
    return X @ Y


def conjugate_transpose(X):
    """``X^H``; of a vector its conjugate."""
    return compat.array_namespace(X).matrix_transpose(conjugate(X)) if X.ndim > 1 else conjugate(X)


def conjugate(X):
    """The conjugate of X, which is X itself where it is real."""
    xp = compat.array_namespace(X)
    return xp.conj(X) if xp.isdtype(X.dtype, "complex floating") else X


def real_parts(X):
    """Real and imaginary part of a complex array; a real array itself."""
    xp = compat.array_namespace(X)
    return (xp.real(X), xp.imag(X)) if xp.isdtype(X.dtype, "complex floating") else (X,)


def q_factor(C):
    """Q of C's QR factorisation, in C's framework."""
    return compat.array_namespace(C).linalg.qr(C)[0]


def solved_by_qr(A, B):
    """Least-squares solution X of ``A @ X = B`` for independent columns of A, in A's framework."""
    linalg = compat.array_namespace(A).linalg
    Q, R = linalg.qr(A)
    return linalg.solve(R, product(conjugate_transpose(Q), B))
