"""Claims measured, tables and pictures of the docs written: what `benchmarks` measures, made into pages."""

import benchmarks  # noqa: F401  (one thread, before NumPy is loaded)
