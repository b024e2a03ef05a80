"""Scikit-learn estimators: features and samples chosen out of the data, and samples as sums of chosen ones."""

import numbers
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.utils import Tags, _safe_indexing, check_array, check_random_state
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from curtensor import _validation
from curtensor.cur import cur_decomposition
from curtensor.interpolative import interpolative_decomposition
from curtensor.kernels import kernel_cur, nystroem_features
from curtensor.operands import tables
from curtensor.operands.arithmetic import dense
from curtensor.selection import select_columns, select_rows

FLOAT_DTYPES = [np.float64, np.float32]
RandomState = int | np.random.RandomState | None
RANK = 100  # features of NystroemCUR where nothing is said, as in scikit-learn's Nystroem


class ColumnSelector(SelectorMixin, BaseEstimator):
    """Keep the features, columns of X, whose span comes closest to all of X.

    Unsupervised, and blind to scale: features that are small leave little error, so scale them first unless that is
    meant. `transform` gives the chosen columns in X's own order, `inverse_transform` zeros in place of the others, as
    all selectors of scikit-learn; `CURTransformer` estimates the others.

    Parameters
    ----------
    rank : int, optional
        Number of features, 1 to min(n_samples, n_features). With neither `rank` nor `rtol`: the numerical rank of X,
        so that only features which are linear combinations of the chosen ones are left out.
    rtol : float, optional
        Largest ``||X - C C^+ X||_F / ||X||_F`` wanted for the chosen columns C, 64 times the dtype's epsilon to below
        1; held, or an error. Not with `rank`.
    method : str or callable, default "osinsky"
        Rule for the choice, as in `curtensor.select_columns`; with "leverage" and "uniform" `rank` may be as high
        as the number of features.
    score_rank : int, optional
        The `rank` of `curtensor.select_columns`: that of a later approximation, where `rank` features are more than
        that, and for "leverage" of the scores drawn by. Not with `rtol`.
    groups : sequence of labels, optional
        One a feature: those with the same label are kept or left out together, such as the indicators of one category
        or the sensors of one station. `rank` is a number of groups then. Not with `rtol`.
    sketch : str or callable, default "sparse_sign"
        As in `curtensor.select_columns`.
    random_state : int, RandomState or None, default None
        Source of randomness; an int chooses as it does as ``rng=``.

    Attributes
    ----------
    col_indices_ : ndarray of int
        The chosen columns in the order of choice, the most telling first; fewer than `rank` where the numerical rank of
        X is lower.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of str
        Their names, where X had such.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import StandardScaler
    >>> from curtensor import ColumnSelector
    >>> wine = load_wine(as_frame=True)
    >>> X = StandardScaler().set_output(transform="pandas").fit_transform(wine.data)
    >>> selector = ColumnSelector(3, random_state=0).set_output(transform="pandas")
    >>> selector.fit_transform(X).shape
    (178, 3)
    >>> bool((selector.transform(X) == X[selector.get_feature_names_out()]).all(axis=None))
    True
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        rtol: float | None = None,
        method: str | Callable = "osinsky",
        score_rank: int | None = None,
        groups: Any = None,
        sketch: str | Callable = "sparse_sign",
        random_state: RandomState = None,
    ) -> None:
        self.rank = rank
        self.rtol = rtol
        self.method = method
        self.score_rank = score_rank
        self.groups = groups
        self.sketch = sketch
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose columns of X (n_samples, n_features), dense, CSR, CSC, a DataFrame or DataArray; y is ignored."""
        X = validated(self, X)
        self.col_indices_ = chosen(self, X, 1) if self.groups is None else chosen_in_groups(self, X)
        return self

    def transform(self, X: Any) -> Any:
        """The chosen columns of X (n_samples, n_features), in X's own order."""
        return super().transform(with_readable_names(X))

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        return mask(self.n_features_in_, self.col_indices_)

    def __sklearn_tags__(self) -> Tags:
        return taking_sparse(super().__sklearn_tags__())


class RowSelector(BaseEstimator):
    """Choose the samples, rows of X, whose span comes closest to all of X.

    A transformer of scikit-learn may not change the number of samples, since y and what runs beside it in a pipeline
    would no longer match. So this is none: it has no `transform`, and `fit_resample` gives the chosen rows of X and y
    together, as imbalanced-learn's samplers do; in that package's pipelines it is a step. Elsewhere, `fit` and then
    index with `row_indices_` or `get_support`.

    Parameters
    ----------
    rank : int, optional
        Number of samples, 1 to min(n_samples, n_features). With neither `rank` nor `rtol`: the numerical rank of X.
    rtol : float, optional
        Largest ``||X - X R^+ R||_F / ||X||_F`` wanted for the chosen rows R, 64 times the dtype's epsilon to below 1;
        held, or an error. Not with `rank`.
    method : str or callable, default "osinsky"
        Rule for the choice, as in `curtensor.select_rows`; with "leverage" and "uniform" `rank` may be as high
        as the number of samples.
    score_rank : int, optional
        The `rank` of `curtensor.select_rows`: that of a later approximation, where `rank` samples are more than that,
        and for "leverage" of the scores drawn by. Not with `rtol`.
    sketch : str or callable, default "sparse_sign"
        As in `curtensor.select_rows`.
    random_state : int, RandomState or None, default None
        Source of randomness; an int chooses as it does as ``rng=``.

    Attributes
    ----------
    row_indices_ : ndarray of int
        The chosen rows in the order of choice; fewer than `rank` where the numerical rank of X is lower.
    n_samples_in_ : int
        Number of samples seen in `fit`.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of str
        Their names, where X had such.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from curtensor import RowSelector
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> few, labels = RowSelector(10, random_state=0).fit_resample(X, y)
    >>> few.shape, labels.shape
    ((10, 13), (10,))
    >>> bool((few.index == labels.index).all())
    True
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        rtol: float | None = None,
        method: str | Callable = "osinsky",
        score_rank: int | None = None,
        sketch: str | Callable = "sparse_sign",
        random_state: RandomState = None,
    ) -> None:
        self.rank = rank
        self.rtol = rtol
        self.method = method
        self.score_rank = score_rank
        self.sketch = sketch
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose rows of X (n_samples, n_features), dense, CSR, CSC, a DataFrame or DataArray; y is ignored."""
        X = validated(self, X)
        self.n_samples_in_ = X.shape[0]
        self.row_indices_ = chosen(self, X, 0)
        return self

    def fit_resample(self, X: Any, y: Any = None) -> tuple[Any, Any]:
        """Choose rows; the chosen ones of X and of y (None for None), in their own order and kind."""
        rows = self.fit(X).get_support(indices=True)
        return _safe_indexing(X, rows), None if y is None else _safe_indexing(y, rows)

    def get_support(self, indices: bool = False) -> np.ndarray:
        """Which samples of `fit` were chosen: a mask, or their numbers in ascending order."""
        check_is_fitted(self)
        return np.sort(self.row_indices_) if indices else mask(self.n_samples_in_, self.row_indices_)

    def __sklearn_tags__(self) -> Tags:
        return taking_sparse(super().__sklearn_tags__())


class CURTransformer(TransformerMixin, BaseEstimator):
    """Write samples as sums of chosen training samples, by what is seen in chosen features alone.

    The CUR decomposition of the training data, X close to C U R, says how a sample x follows from its chosen features:
    ``transform`` gives the coefficients ``x[col_indices_] @ U``, ``inverse_transform`` multiplies them by the chosen
    rows R. For the training data, both together are the decomposition; for a new sample whose other features were
    never measured, they estimate these.

    Parameters
    ----------
    rank : int, optional
        Number of columns and of rows, 1 to min(n_samples, n_features). With neither `rank` nor `rtol`: the numerical
        rank of X, so that nothing of the training data is lost.
    rtol : float, optional
        Largest ``||X - C U R||_F / ||X||_F`` wanted for the training data; held, or an error. Not with `rank`.
    n_columns, n_rows : int, optional
        Numbers of columns and rows, at least `rank`, which is their default; without `rank`, which is the smaller of
        them then, both or none.
    method : str or callable, default "osinsky"
        Rule for columns and rows, as in `curtensor.cur_decomposition`.
    core : "projection" or "intersection" or callable, default "projection"
        Which middle matrix U, as in `curtensor.cur_decomposition`.
    sketch : str or callable, default "sparse_sign"
        As in `curtensor.cur_decomposition`.
    random_state : int, RandomState or None, default None
        Source of randomness; an int chooses as it does as ``rng=``.

    Attributes
    ----------
    col_indices_, row_indices_ : ndarray of int
        The chosen columns and rows of the training data, in the order of choice.
    components_ : ndarray or sparse array, shape (n_rows, n_features)
        R, the chosen rows to the bit, sparse where X was.
    error_estimate_ : float
        ``||X - C U R||_F / ||X||_F``, as in `curtensor.CUR`.
    row_names_ : ndarray of str
        Names of the chosen rows: those of a DataFrame's index, else their numbers.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of str
        Their names, where X had such.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from curtensor import CURTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> transformer = CURTransformer(20, random_state=0).fit(X[:1000])
    >>> Z = transformer.transform(X[1000:])
    >>> Z.shape
    (797, 20)
    >>> unseen = X[1000:] - transformer.inverse_transform(Z)
    >>> bool(np.linalg.norm(unseen) < 0.3 * np.linalg.norm(X[1000:]))
    True
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        rtol: float | None = None,
        n_columns: int | None = None,
        n_rows: int | None = None,
        method: str | Callable = "osinsky",
        core: str | Callable = "projection",
        sketch: str | Callable = "sparse_sign",
        random_state: RandomState = None,
    ) -> None:
        self.rank = rank
        self.rtol = rtol
        self.n_columns = n_columns
        self.n_rows = n_rows
        self.method = method
        self.core = core
        self.sketch = sketch
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Decompose X (n_samples, n_features), dense, CSR, CSC, a DataFrame or DataArray; y is ignored."""
        given, X = X, validated(self, X)
        result = cur_decomposition(
            X,
            rank_or_full(self, X, self.n_columns, self.n_rows),
            rtol=self.rtol,
            n_columns=self.n_columns,
            n_rows=self.n_rows,
            method=self.method,
            core=self.core,
            sketch=self.sketch,
            rng=seed(self.random_state),
        )
        self.col_indices_, self.row_indices_ = result.col_indices, result.row_indices
        self.components_, self.error_estimate_ = result.R, result.error_estimate
        row_names, _ = tables.names(given, 2)
        self.row_names_ = tables.texts(self.row_indices_ if row_names is None else row_names[self.row_indices_])
        self._middle = result.middle
        self._to_columns = dense(result.left.conj().T @ result.C)
        self._to_rows = dense(result.R @ result.right.conj().T)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Coefficients (n_samples, n_rows) of the samples X on the chosen rows; reads the chosen columns alone."""
        check_is_fitted(self)
        seen = dense(validated(self, X, reset=False)[:, self.col_indices_])
        # solved for, since a product with U would lose digits
        along = np.linalg.lstsq(self._to_columns.T, seen.T)[0].T @ self._middle
        return np.linalg.lstsq(self._to_rows.T, along.T)[0].T

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Samples (n_samples, n_features) from their coefficients X on the chosen rows."""
        check_is_fitted(self)
        return check_array(X, dtype=FLOAT_DTYPES) @ self.components_

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``row_<name>`` for each chosen row; `input_features` are only checked."""
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array([f"row_{name}" for name in self.row_names_], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = taking_sparse(super().__sklearn_tags__())
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class NystroemCUR(TransformerMixin, BaseEstimator):
    """Map samples to features whose inner products approximate a kernel, by chosen training samples.

    What `sklearn.kernel_approximation.Nystroem` does by samples drawn uniformly: here they are pivots of a Cholesky
    decomposition of the kernel matrix, of which the error is known exactly, and few columns alone are computed.

    Parameters
    ----------
    rank : int, optional
        Number of features, 1 to n_samples. With neither `rank` nor `trace_rtol`: 100, or n_samples where that is less.
    trace_rtol : float, optional
        Largest share of the kernel matrix' trace that may be left; held, or an error. Not with `rank`.
    kernel : str or callable, default "rbf"
        A kernel of `sklearn.metrics.pairwise.pairwise_kernels`, or a function ``(x, y, **kernel_params)`` of two
        samples, as there. "precomputed" is not possible.
    gamma, coef0, degree : float, optional
        Parameters of the named kernels, as in `sklearn.kernel_approximation.Nystroem`.
    kernel_params : dict, optional
        Parameters of a function.
    method : str or callable, default "rpcholesky"
        How samples are chosen, as in `curtensor.kernel_cur`; "uniform" is scikit-learn's way.
    random_state : int, RandomState or None, default None
        Source of randomness; an int chooses as it does as ``rng=``.

    Attributes
    ----------
    row_indices_ : ndarray of int
        The chosen samples in the order of choice; fewer than `rank` where the kernel's numerical rank is lower.
    components_ : ndarray or sparse array, shape (rank, n_features)
        The chosen samples.
    trace_error_ : float
        Share of the kernel matrix' trace that is left.
    row_names_ : ndarray of str
        Names of the chosen samples: those of a DataFrame's index, else their numbers.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of str
        Their names, where X had such.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from curtensor import NystroemCUR
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(NystroemCUR(200, gamma=5e-4, random_state=0), RidgeClassifier())
    >>> model.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.93
    True
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        trace_rtol: float | None = None,
        kernel: str | Callable = "rbf",
        gamma: float | None = None,
        coef0: float | None = None,
        degree: float | None = None,
        kernel_params: dict | None = None,
        method: str | Callable = "rpcholesky",
        random_state: RandomState = None,
    ) -> None:
        self.rank = rank
        self.trace_rtol = trace_rtol
        self.kernel = kernel
        self.gamma = gamma
        self.coef0 = coef0
        self.degree = degree
        self.kernel_params = kernel_params
        self.method = method
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose samples of X (n_samples, n_features), dense, CSR, CSC, a DataFrame or DataArray; y is ignored."""
        self._fitted(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Choose samples, and the features (n_samples, rank) of all of them, which come with the choice."""
        return self._fitted(X)

    def _fitted(self, X):
        given, X = X, validated(self, X)
        rank = min(RANK, X.shape[0]) if self.rank is None and self.trace_rtol is None else self.rank
        options = {"trace_rtol": self.trace_rtol, "method": self.method, "rng": seed(self.random_state)}
        result = kernel_cur(X, rank, kernel=self._kernel, **options)
        self.row_indices_, self.trace_error_ = result.indices, result.trace_error
        self.components_ = X[result.indices]
        self._triangle = result.F[result.indices]
        row_names, _ = tables.names(given, 2)
        self.row_names_ = tables.texts(self.row_indices_ if row_names is None else row_names[self.row_indices_])
        return np.ascontiguousarray(result.F)

    def _kernel(self, X: Any, Y: Any) -> np.ndarray:
        named = {"gamma": self.gamma, "coef0": self.coef0, "degree": self.degree}
        given = {key: value for key, value in named.items() if value is not None}
        if self.kernel == "precomputed":
            raise _validation.complain(ValueError, "kernel", "one of samples, not precomputed", "'precomputed'")
        if callable(self.kernel):
            return pairwise_kernels(X, Y, metric=self.kernel, **(self.kernel_params or {}))
        return pairwise_kernels(X, Y, metric=self.kernel, filter_params=True, **given, **(self.kernel_params or {}))

    def transform(self, X: Any) -> np.ndarray:
        """Features (n_samples, rank) of the samples X."""
        check_is_fitted(self)
        X = validated(self, X, reset=False)
        if len(self.row_indices_) == 0:
            return np.zeros((X.shape[0], 0), self._triangle.dtype)
        return nystroem_features(self._triangle, self._kernel(X, self.components_))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``row_<name>`` for each chosen sample; `input_features` are only checked."""
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array([f"row_{name}" for name in self.row_names_], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = taking_sparse(super().__sklearn_tags__())
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def validated(estimator, X, *, reset=True):
    """X as scikit-learn checks it: real floats, dense, CSR or CSC."""
    options = {"accept_sparse": ("csr", "csc"), "dtype": FLOAT_DTYPES, "reset": reset}
    return validate_data(estimator, with_readable_names(X), **options)


def with_readable_names(X):
    """X itself, or a DataArray's table in the form whose names scikit-learn reads."""
    return X.to_pandas() if getattr(X, "ndim", 0) == len(getattr(X, "dims", ())) == 2 else X


def taking_sparse(tags):
    """The tags of an estimator which takes sparse matrices."""
    tags.input_tags.sparse = True
    return tags


def seed(random_state):
    """What `rng` is to be for a random state: an int itself, else a number which the state draws."""
    if isinstance(random_state, numbers.Integral):
        return random_state
    return check_random_state(random_state).randint(2**31)


def rank_or_full(estimator, X, *sizes):
    """The rank asked for; as high as can be where neither a rank nor a tolerance nor numbers of slices are."""
    given = (estimator.rank, estimator.rtol, *sizes)
    return min(X.shape) if all(value is None for value in given) else estimator.rank


def chosen(selector, X, axis):
    """The columns (axis 1) or rows (axis 0) that a selector chooses, in the order of choice."""
    options = {"method": selector.method, "sketch": selector.sketch, "rng": seed(selector.random_state)}
    rank = rank_or_full(selector, X)
    if selector.rtol is not None and selector.score_rank is not None:
        raise _validation.complain(ValueError, "score_rank", "None where rtol is given", selector.score_rank)
    if selector.rtol is not None:
        return interpolative_decomposition(X, rank, rtol=selector.rtol, axis=axis, **options).indices
    return (select_columns if axis == 1 else select_rows)(X, rank, rank=selector.score_rank, **options)


def chosen_in_groups(selector, X):
    """The columns of the groups that a selector chooses; by default of all groups that add something."""
    if selector.rtol is not None:
        raise _validation.complain(ValueError, "rtol", "None where groups are given", selector.rtol)
    labels = list(selector.groups)
    n_groups = len(set(labels)) if selector.rank is None else selector.rank
    options = {"method": selector.method, "sketch": selector.sketch, "rng": seed(selector.random_state)}
    return select_columns(X, n_groups, rank=selector.score_rank, groups=labels, **options)


def mask(size, indices):
    """True at the indices."""
    inside = np.zeros(size, dtype=bool)
    inside[indices] = True
    return inside
