"""The data sets are the ones that their docstrings name."""

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.datasets import load_digits, load_faithful, load_galaxies


def test_digits_are_the_test_set_of_optdigits():
    images, labels = load_digits()
    assert images.shape == (1797, 64)
    assert images.dtype == np.float64
    assert images.min() == 0.0
    assert images.max() == 16.0
    assert np.array_equal(images, np.round(images))
    # The class counts that the repository states for its test set.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_galaxies_are_in_1000_km_s():
    velocity = load_galaxies()
    assert velocity.shape == (82,)
    assert velocity[0] == 9.172
    assert velocity[-1] == 34.279
    assert (np.diff(velocity) >= 0.0).all()
    # A widely used copy has 26.690 here.
    assert velocity[77] == 26.96


def test_faithful_is_duration_and_wait():
    eruptions = load_faithful()
    assert eruptions.shape == (272, 2)
    assert eruptions.mean(axis=0) == pytest.approx([3.487783, 70.897059], abs=1e-6)
    assert eruptions.min(axis=0).tolist() == [1.6, 43.0]
    assert eruptions.max(axis=0).tolist() == [5.1, 96.0]


@pytest.mark.parametrize("load", [lambda: load_digits().images, load_galaxies, load_faithful])
def test_each_call_returns_an_array_of_its_own(load):
    first, second = load(), load()
    first[:] = -1.0
    assert (second >= 0.0).all()


def test_datasets_is_an_attribute_of_the_package():
    assert fe.datasets.load_digits is load_digits
    with pytest.raises(AttributeError, match="no attribute 'data_sets'"):
        _ = fe.data_sets
