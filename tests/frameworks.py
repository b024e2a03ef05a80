"""Arrays of the frameworks that follow the array API, made of NumPy's and made into them again."""

import contextlib
import importlib.util

import numpy as np
import pytest


def of_torch(A):
    return pytest.importorskip("torch").from_numpy(np.array(A))


def of_torch_on_a_gpu(A):
    if not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("needs a GPU that PyTorch can use")
    return of_torch(A).cuda()


def of_cupy(A):
    cupy = pytest.importorskip("cupy")
    if not cupy.is_available():
        pytest.skip("needs a GPU that CuPy can use")
    return cupy.asarray(A)


def of_jax(A):
    return pytest.importorskip("jax").numpy.asarray(A)


def of_strict(A, device="CPU_DEVICE"):
    strict = pytest.importorskip("array_api_strict")
    return strict.asarray(np.array(A), device=strict.Device(device))


def of_strict_on_another_device(A):
    return of_strict(A, "device1")


FRAMEWORKS = {
    "torch": of_torch,
    "jax": of_jax,
    "array-api-strict": of_strict,
    "torch on a GPU": of_torch_on_a_gpu,
    "cupy": of_cupy,
    "another device": of_strict_on_another_device,  # from which nothing may come but by a transfer
}


def numpys(X):
    """A framework's array as NumPy's."""
    if hasattr(X, "resolve_conj"):
        return X.detach().cpu().resolve_conj().numpy()
    if type(X).__module__.startswith("cupy"):
        return X.get()
    if type(X).__module__.startswith("array_api_strict"):
        X = X.to_device(type(X.device)("CPU_DEVICE"))
    return np.asarray(X)


@contextlib.contextmanager
def jax_doubles():
    """JAX with float64, which it has not by itself; what it compiles here runs but once, so it need not be fast."""
    if importlib.util.find_spec("jax") is None:
        yield
        return
    import jax

    options = {"jax_enable_x64": True, "jax_disable_most_optimizations": True}
    before = {name: jax.config.read(name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
