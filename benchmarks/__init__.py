"""Benchmarks of fastelbo and of other libraries that do the same work.

``pytest --benchmark-only`` in the project's root runs all of them; see `benchmarks.conftest`.
"""
