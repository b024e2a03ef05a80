"""
An integral over 100 variables
==============================

A grid of ten points in each of 100 variables has 10^100 points. A tensor train of a function on it is made of some
thousand of these, and its integral is a sum over the train with the weights of a quadrature rule.
"""

import matplotlib.pyplot as plt
import numpy as np

import curtensor as ct

x, weights = np.polynomial.legendre.leggauss(10)
x, weights = (x + 1) / 2, weights / 2  # on the unit interval
rates = 0.1 / (1 + np.arange(100) % 7)


def kernel(*indices):
    """One over one plus a weighted sum of the variables, at points of the grid."""
    return 1 / (1 + sum(rate * x[index] for rate, index in zip(rates, indices, strict=True)))


# %%
# It is known as an integral over one variable, since 1 / s is the integral of exp(-s t) over all positive t.

t, t_weights = np.polynomial.legendre.leggauss(300)
t, t_weights = 30 * (t + 1), 30 * t_weights
exact = t_weights @ (np.exp(-t) * np.prod(-np.expm1(-np.outer(t, rates)) / np.outer(t, rates), axis=1))

# %%
# The train for some tolerances, beside the mean of as many random points.

rng = np.random.default_rng(0)
read, errors, monte_carlo = [], [], []
for rtol in (1e-1, 1e-3, 1e-6, 1e-9):
    train = ct.tt_cross(kernel, rtol=rtol, shape=(10,) * 100, rng=0)
    integral = train.sum(weights=[weights] * 100)
    mean = (1 / (1 + rng.random((train.n_entries_read, 100)) @ rates)).mean()
    read.append(train.n_entries_read)
    errors.append(max(abs(integral / exact - 1), 1e-16))
    monte_carlo.append(abs(mean / exact - 1))
    print(f"rtol {rtol:.0e}: {train.n_entries_read:,} points, integral {integral:.12f}, error {errors[-1]:.0e}")

# %%
# What is known of the train says more than one number: the mean over all variables but one is a curve.

rest = train.sum(range(1, 100), [weights] * 99)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
left.semilogy(range(4), monte_carlo, "o-", label="as many random points")
left.semilogy(range(4), errors, "o-", label="tensor train")
left.set_xticks(range(4), [f"{count:,}" for count in read])
left.set_xlabel("points at which the function was asked")
left.set_ylabel("relative error of the integral")
left.legend()
right.plot(x, rest.to_array())
right.set_xlabel("first variable")
right.set_ylabel("integral over the other 99")
figure.tight_layout()
