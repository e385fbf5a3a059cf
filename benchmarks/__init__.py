"""Timings of fastelbo beside what one would use instead.

``pytest --benchmark-only`` from the project's root times everything; see `benchmarks.conftest`.
"""
