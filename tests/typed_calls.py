"""Calls as users write them, right and wrong, for a type checker; `test_typing` runs it, nobody runs this.

A wrong call carries the error that it must give: were it accepted, the comment itself would be an error.
"""

import numpy as np
import pandas as pd
from scipy import sparse

import curtensor as ct

A = np.ones((6, 5))
X = np.ones((6, 5, 4))

cur: ct.CUR = ct.cur_decomposition(A, 2, rng=0)
C, U, R, columns, rows = cur
cur = ct.cur_decomposition(sparse.csr_array(A), rtol=0.1, method=lambda basis, residual, k, rng: np.arange(k))
cur = ct.cur_decomposition(pd.DataFrame(A), 2, n_rows=3, core="intersection", callback=print)
cur = ct.cur_from_indices(A, columns, [0, 1], core="intersection")
cur.save("cur.npz")
rank: int = ct.CUR.load("cur.npz").refine(A, 3).rank
chosen: np.ndarray = ct.select_columns(A, 2, include=[1], rng=np.random.default_rng(0))
scores: np.ndarray = ct.leverage_scores(A, 2, axis=1)
svd: ct.SVD = ct.randomized_svd(A, 2)
error: float = ct.relative_error(A, svd)
skeleton: ct.ID = ct.interpolative_decomposition(A, 2, axis=0)
tucker: ct.Tucker = ct.st_hosvd(X, (2, 2, 2))
tensor: ct.TensorCUR = ct.tensor_cur(X, 2, rng=0)
small: ct.Tucker = tensor.to_tucker(2)
read: ct.SVD = ct.SVD.load("svd.npz")
product = svd @ A.T @ A @ svd
numbers: int = small.n_stored + read.nbytes + skeleton.size
implicit: ct.TensorCUR = ct.tensor_cur(lambda i, j: i + j, 2, shape=(9, 9))
tucker = ct.hooi(X, rtol=0.1, callback=print)
tubal: ct.TubalCUR = ct.tubal_cur(X, n_columns=2, n_rows=3)
tubal_svd: ct.TubalSVD = ct.tubal_svd(X, rtol=0.1)
chosen = ct.select_rows(A, 2, exclude=chosen)
blocks: ct.RowBlocks = ct.row_blocks(A)
features: np.ndarray = ct.CURTransformer(2, random_state=0).fit(A).transform(A)
table: ct.Comparison = ct.compare(A, [1, 2])
names = sorted(ct.selection.SELECTION_RULES)
matrix = ct.files.read_matrix("A.csv").A

ct.cur_decompositon(A, 2)  # type: ignore[attr-defined]
ct.cur_decomposition(A, "two")  # type: ignore[arg-type]
ct.cur_decomposition(A, 2, ranks=3)  # type: ignore[call-arg]
ct.cur_decomposition(A, 2, 3)  # type: ignore[call-arg]
ct.cur_decomposition(A=A, rank=2)  # type: ignore[call-arg]
ct.leverage_scores(A, k=2)  # type: ignore[call-arg]
ct.ColumnSelector(rank="two")  # type: ignore[arg-type]
ct.cur_from_indices(A, [0])  # type: ignore[call-arg]
ct.select_columns(A, 2, method=3)  # type: ignore[arg-type]
ct.randomized_svd(A, rtol="small")  # type: ignore[arg-type]
ct.st_hosvd(X, 2.5)  # type: ignore[arg-type]
ct.tensor_cur(X, 2, rng="seed")  # type: ignore[arg-type]
print(cur.colums)  # type: ignore[attr-defined]
words: str = svd.s  # type: ignore[assignment]
other: ct.CUR = ct.ID.load("id.npz")  # type: ignore[assignment]
