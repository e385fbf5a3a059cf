"""Stan models by BridgeStan: a library in C with the functions of BridgeStan's C interface."""

import copy
import ctypes
import math
import pickle
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

# Eight schools (Rubin, 1981), non-centred: mu, log tau, eta. It stops with an error for mu above
# the limit that is its data, as reject() would.
SOURCE = r"""
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
typedef struct { double limit; } bs_model;
static const double Y[8] = {28, 8, -3, 7, -1, 1, 18, 12};
static const double SIGMA[8] = {15, 10, 16, 11, 9, 11, 10, 18};
static double normal(double x, double mean, double scale) {
  double e = (x - mean) / scale;
  return -0.5 * e * e - log(scale) - 0.91893853320467274178;
}
bs_model *bs_model_construct(const char *data, unsigned seed, char **error) {
  bs_model *m = malloc(sizeof *m);
  m->limit = atof(data);
  return m;
}
void bs_model_destruct(bs_model *m) { free(m); }
void bs_free_error_msg(char *error) { free(error); }
int bs_log_density(const bs_model *m, bool propto, bool jacobian, const double *theta,
                   double *value, char **error) {
  if (theta[0] > m->limit) {
    if (error) *error = strdup("mu is above its limit");
    return -1;
  }
  double mu = theta[0], tau = exp(theta[1]), ratio = tau / 5.0;
  double total = normal(mu, 0.0, 5.0) + log(2.0 / (5.0 * M_PI)) - log1p(ratio * ratio);
  if (jacobian) total += theta[1];
  for (int j = 0; j < 8; ++j)
    total += normal(theta[2 + j], 0.0, 1.0) + normal(Y[j], mu + tau * theta[2 + j], SIGMA[j]);
  *value = propto ? total - 1000.0 : total;
  return 0;
}
int bs_log_density_gradient(const bs_model *m, bool propto, bool jacobian, const double *theta,
                            double *value, double *gradient, char **error) {
  int status = bs_log_density(m, propto, jacobian, theta, value, error);
  if (status) return status;
  double tau = exp(theta[1]), square = tau * tau / 25.0;
  gradient[0] = -theta[0] / 25.0;
  gradient[1] = (jacobian ? 1.0 : 0.0) - 2.0 * square / (1.0 + square);
  for (int j = 0; j < 8; ++j) {
    double pull = (Y[j] - theta[0] - tau * theta[2 + j]) / (SIGMA[j] * SIGMA[j]);
    gradient[0] += pull;
    gradient[1] += tau * pull * theta[2 + j];
    gradient[2 + j] = tau * pull - theta[2 + j];
  }
  return 0;
}
"""
Y = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
SIGMA = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
LOG_EVIDENCE = -31.3113473523
NAMES = ("mu", "tau", *(f"eta.{j}" for j in range(1, 9)))
Q = fe.StudentT(5.0, [4.5, 1.0] + [0.0] * 8, scale=[4.0, 1.2] + [1.1] * 8)


def log_joint(z, y, sigma):
    mu, tau = z[0], math.exp(z[1])
    total = fe.math.normal_log_prob(mu, 0.0, 5.0) + z[1]
    total += math.log(2.0 / (5.0 * math.pi)) - math.log1p((tau / 5.0) ** 2)
    for j in range(8):
        total += fe.math.normal_log_prob(z[2 + j], 0.0, 1.0)
        total += fe.math.normal_log_prob(y[j], mu + tau * z[2 + j], sigma[j])
    return total


class StanModel:
    """What bridgestan.StanModel offers and from_bridgestan reads."""

    def __init__(self, path, limit="1e300", *, names=NAMES, threads="true"):
        self.stanlib = ctypes.CDLL(str(path))
        self._names, self._threads = names, threads
        self.stanlib.bs_model_construct.restype = ctypes.c_void_p
        self.stanlib.bs_model_destruct.argtypes = [ctypes.c_void_p]
        self.stanlib.bs_log_density.argtypes = [
            ctypes.c_void_p, ctypes.c_bool, ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_char_p),
        ]  # fmt: skip
        self.model = self.stanlib.bs_model_construct(limit.encode(), 1234, None)

    def __del__(self):
        # Whoever calls it after that meets the limit of a model that refuses everything.
        ctypes.c_double.from_address(self.model).value = -math.inf
        self.stanlib.bs_model_destruct(self.model)

    def model_info(self):
        return f"Stan C++ Defines:\n\tSTAN_THREADS={self._threads}\n\tSTAN_MPI=false\n"

    def param_unc_num(self):
        return len(self._names)

    def param_unc_names(self):
        return list(self._names) or [""]

    def log_density(self, theta_unc, *, propto=True, jacobian=True):
        value, error = ctypes.c_double(), ctypes.c_char_p()
        status = self.stanlib.bs_log_density(
            self.model, propto, jacobian, theta_unc.ctypes.data, ctypes.addressof(value),
            ctypes.byref(error),
        )  # fmt: skip
        if status:
            raise RuntimeError(error.value.decode())
        return value.value


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("stan")
    (folder / "schools.c").write_text(SOURCE)
    path = folder / "schools_model.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-D_GNU_SOURCE", "schools.c", "-o", str(path)]
    subprocess.run([*command, "-lm"], cwd=folder, check=True)
    return path


def test_evidence_equals_the_compiled_form(library):
    # The Stan model lives as long as ours.
    stan = fe.from_bridgestan(StanModel(library))
    compiled = fe.Model(log_joint=log_joint, dim=10, params=(Y, SIGMA))
    assert (stan.names, stan.dim, stan.batch_shape) == (NAMES, 10, ())
    # 1 and 513 draws: blocks that are not full.
    for n in (1, 7, 513, 100_000):
        ours, own = fe.estimate(stan, Q, n, rng=3), fe.estimate(compiled, Q, n, rng=3)
        np.testing.assert_allclose(ours.log_evidence, own.log_evidence, rtol=0.0, atol=1e-6)
    assert abs(ours.log_evidence - LOG_EVIDENCE) < 4.0 * ours.log_evidence_se
    assert np.isnan([ours.kl, ours.expected_log_likelihood]).all()


@pytest.mark.parametrize(
    "q",
    [
        fe.Gaussian(Q.mean, scale_tril=np.diag(Q.scale) + np.tril(np.full((10, 10), 0.1), -1)),
        fe.Mixture([0.5, 0.5], fe.Gaussian([Q.mean, Q.mean + 1.0], scale=Q.scale)),
    ],
)
def test_every_frame_of_draws(library, q):
    model = fe.from_bridgestan(StanModel(library))
    z = q.sample(600, rng=5)
    expected = [model.likelihood.function.log_density(np.array(each), propto=False) for each in z]
    np.testing.assert_allclose(model.log_joint(z), expected, rtol=1e-15)
    weights = fe.log_weights(model, q, 600, rng=5)
    np.testing.assert_allclose(weights, expected - q.log_prob(z), rtol=0.0, atol=1e-11)
    plain = fe.log_weights(model, q, 600, rng=5, backend="numpy")
    np.testing.assert_allclose(weights, plain, rtol=0.0, atol=1e-11)


def test_an_error_is_a_nan_of_its_draw_alone(library):
    stan_model = StanModel(library, limit="16.0")
    model = fe.from_bridgestan(stan_model)
    z = Q.sample(2000, rng=0)
    refused = z[:, 0] > 16.0
    assert 5 < refused.sum() < 500
    values = model.log_joint(z)
    np.testing.assert_array_equal(np.isnan(values), refused)
    first = int(np.flatnonzero(refused)[0])
    for backend in ("cpu", "numpy"):
        message = rf"{refused.sum()} log weights are NaN .* data point 0, draw {first}:.*key=(\d+)"
        with pytest.raises(fe.errors.InvalidWeightError, match=message) as caught:
            fe.estimate(model, Q, 2000, rng=0, backend=backend)
        key = int(re.search(message, str(caught.value))[1])
        with pytest.raises(RuntimeError, match="mu is above its limit"):
            stan_model.log_density(fe.draw(Q, 0, first, key=key))


def test_threads_share_a_model(library):
    model = fe.from_bridgestan(StanModel(library))
    one = fe.estimate(model, Q, 50_000, rng=1, n_threads=1)
    found = []

    def work():
        found.append(fe.estimate(model, Q, 50_000, rng=1, n_threads=3).log_evidence)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [one.log_evidence] * 3


def test_models_of_one_library_keep_their_data(library):
    free, bounded = StanModel(library), StanModel(library, limit="0.0")
    models = [fe.from_bridgestan(each) for each in (free, bounded, free)]
    z = np.full(10, 0.5)
    values = [float(model.log_joint(z)) for model in models]
    assert np.isfinite(values[0])
    np.testing.assert_array_equal(values, [values[0], np.nan, values[0]])


def test_copies_share_the_model_in_memory(library):
    model = fe.from_bridgestan(StanModel(library))
    z = np.full(10, 0.5)
    expected = model.log_joint(z)
    copies = [copy.copy(model), copy.deepcopy(model)]
    with pytest.raises(TypeError, match="call from_bridgestan in each process"):
        pickle.dumps(model)
    del model
    assert [each.log_joint(z) for each in copies] == [expected] * 2


def test_gradients(library):
    """By its C function; a draw that Stan refuses has neither value nor gradient."""
    theirs = fe.from_bridgestan(StanModel(library, "5.0")).likelihood
    ours = fe.Model(log_joint=log_joint, dim=10, params=(Y, SIGMA)).likelihood
    z = np.random.default_rng(3).normal(size=(1100, 10))
    z[700, 0] = 5.1
    (value, slope), (same, exact) = (each.value_and_gradient(z) for each in (theirs, ours))
    assert np.flatnonzero(np.isnan(value)).tolist() == [700]
    kept = np.arange(len(z)) != 700
    np.testing.assert_allclose(value[kept], same[kept], rtol=1e-12)
    np.testing.assert_allclose(slope[kept], exact[kept], rtol=1e-12, atol=1e-12)


def test_a_device_is_refused(library):
    model, q = fe.from_bridgestan(StanModel(library)), fe.Gaussian(np.zeros(10), scale=1.0)
    with pytest.raises(InvalidInputError, match=r"backend must be .* machine code is for the CPU"):
        fe.estimate(model, q, 10, backend="cuda")


def test_models_that_cannot_be_taken(library):
    with pytest.raises(InvalidInputError, match=r"STAN_THREADS=true.*make_args"):
        fe.from_bridgestan(StanModel(library, threads="false"))
    with pytest.raises(InvalidInputError, match="at least one parameter"):
        fe.from_bridgestan(StanModel(library, names=()))
    for wrong in (StanModel, None, object(), "schools.stan", log_joint):
        with pytest.raises(InvalidInputError, match="BridgeStan 2 or later, got"):
            fe.from_bridgestan(wrong)
    first_version = StanModel(library)
    first_version.model_rng = vars(first_version).pop("model")
    with pytest.raises(InvalidInputError, match=r"BridgeStan 2 or later, got .* without model"):
        fe.from_bridgestan(first_version)
    first_version.model = first_version.model_rng
    different = StanModel(library)
    different.log_density = lambda theta, *, propto, jacobian: -1.0
    with pytest.raises(InvalidInputError, match="by its C function"):
        fe.from_bridgestan(different)
    with pytest.raises(InvalidInputError, match="precision must be"):
        fe.estimate(fe.from_bridgestan(StanModel(library)), Q, 100, precision="float32")
