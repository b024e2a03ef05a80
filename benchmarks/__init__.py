"""Benchmarks of curtensor and its peers, run by asv, and the figures it claims, checked by ``verify_matrices``."""
