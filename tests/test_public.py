"""What a user sees of the package: its names, and no others."""

import sys

import pytest

import fastelbo as fe

SUBMODULES = {"datasets", "errors", "math", "plotting"}


def test_dir_shows_what_is_for_users():
    shown = dir(fe)
    assert shown == sorted({*fe.__all__, "__version__"})
    assert set(shown) >= SUBMODULES | {"estimate", "Gaussian"}
    assert not {"engine", "kernels", "models", "version"} & set(shown)
    assert all(hasattr(fe, name) for name in shown)


def test_submodules_are_public():
    modules = {name for name in dir(fe) if type(getattr(fe, name)) is type(sys)}
    assert modules == SUBMODULES


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match="'fastelbo' has no attribute 'estimat'"):
        fe.estimat  # noqa: B018
