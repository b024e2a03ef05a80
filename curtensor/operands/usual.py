"""What most operands have in common, for them to import where they have no way of their own."""


def by_columns(A):
    """Not so: panels of A.T are no cheaper than those of A."""
    return False


def copies_multiples(A):
    """So it is: A lies in memory."""
    return True


def knows_norm(A):
    """So it is: each entry is seen."""
    return True


def like(A, X, own=False):
    """X itself: what is computed of A is in NumPy's arrays."""
    return X
