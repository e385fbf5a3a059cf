"""Log weights in pieces: the same bits as in one, merges, checkpoints, adversarial streams."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits
from hypothesis import given, settings
from hypothesis import strategies as some

import fastelbo as fe
from fastelbo.engine import checkpoints
from fastelbo.kernels.draws.blocks import CHUNK
from fastelbo.version import STREAM_VERSION

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
K = 2 * CHUNK + 1234
SIZES = [7, 10, 8192, 20_000]
WEIGHTS = np.random.default_rng(0).standard_t(3, size=(3, K))
WEIGHTS[1, 5:9000] = -np.inf
EACH = settings(deadline=None, derandomize=True, max_examples=25)


def filled(pieces, sizes=(10, 100), axis=-1, **options):
    accumulator = fe.LogWeightAccumulator(sizes, **options)
    for piece in pieces:
        accumulator.update(piece, axis=axis)
    return accumulator


def whole(weights=WEIGHTS, sizes=(10, 100), **options):
    return bits(
        fe.summarize(weights, iw_sizes=[k for k in sizes if k <= weights.shape[-1]], **options)
    )


# --- pieces -----------------------------------------------------------------------------------


@EACH
@given(some.lists(some.integers(0, K), max_size=12))
def test_pieces_give_the_bits_of_the_whole(cuts):
    pieces = np.split(WEIGHTS, sorted(cuts), axis=1)
    assert bits(filled(pieces, SIZES).result()) == whole(sizes=SIZES)


@pytest.mark.parametrize("size", [1, 100, 5000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_pieces_of_one_size(size):
    weights = WEIGHTS[:, : 2 * CHUNK + 3] if size > 1 else WEIGHTS[:, :700]
    accumulator = filled(weights[:, lo : lo + size] for lo in range(0, weights.shape[1], size))
    assert accumulator.n_samples == weights.shape[1]
    assert bits(accumulator.result()) == whole(weights)
    assert accumulator.exact


def test_a_result_on_the_way_changes_nothing():
    accumulator = filled([])
    for lo in range(0, K, 3000):
        accumulator.update(WEIGHTS[:, lo : lo + 3000])
        assert bits(accumulator.result()) == whole(WEIGHTS[:, : lo + 3000])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ">f8", np.int64])
def test_other_axes_types_and_layouts(dtype):
    weights = np.moveaxis(WEIGHTS.reshape(3, 1, K), 2, 0)
    weights = np.where(np.isinf(weights), -50, weights).astype(dtype)
    accumulator = filled([weights[:9000], np.asfortranarray(weights[9000:])], axis=0)
    assert accumulator.batch_shape == (3, 1)
    assert bits(accumulator.result()) == bits(fe.summarize(weights, axis=0))


def test_one_data_point_and_none():
    accumulator = filled([WEIGHTS[0, :100], [], WEIGHTS[0, 100:]])
    assert accumulator.batch_shape == ()
    assert bits(accumulator.result()) == whole(WEIGHTS[0])
    nothing = filled([np.empty((0, 5))])
    assert nothing.result().batch_shape == (0,)


def test_tail_draws():
    assert np.isnan(filled([WEIGHTS], tail_draws=0).result().pareto_k).all()
    weights = 0.3 * np.random.default_rng(1).standard_exponential((3, K))
    few = filled([weights], tail_draws=201).result()
    np.testing.assert_array_equal(few._tail, np.sort(weights)[:, :-202:-1])
    np.testing.assert_allclose(few.pareto_k, 0.3, atol=0.3)


def test_sizes_above_the_number_of_draws_are_absent():
    accumulator = filled([WEIGHTS[:, :50]])
    assert accumulator.result().iw_sizes == (10,)
    accumulator.update(WEIGHTS[:, 50:100])
    assert accumulator.result().iw_sizes == (10, 100)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_piece_is_refused_whole(bad):
    accumulator = filled([WEIGHTS[:, :9000]])
    piece = WEIGHTS[:, 9000:].copy()
    piece[1, 77] = piece[2, 3] = bad
    with pytest.raises(fe.errors.InvalidWeightError, match=r"^2 log weights.* point 1, draw 77"):
        accumulator.update(piece)
    accumulator.update(WEIGHTS[:, 9000:])
    assert bits(accumulator.result()) == whole()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda a: a.update(np.zeros((2, 5))), r"shape \(3,\).*got \(2,\)"),
        (lambda a: a.update(3.0), "axis of draws"),
        (lambda a: a.update(np.zeros((3, 5)), axis=2), "axis"),
        (lambda a: a.merge(filled([np.zeros((2, 5))])), r"shape \(3,\).*got \(2,\)"),
        (lambda a: a.merge(filled([WEIGHTS], [3])), r"iw_sizes.*\(10, 100\) and \(3,\)"),
        (lambda a: a.merge(filled([WEIGHTS], tail_draws=9)), "tail_draws.*4096 and 9"),
        (lambda a: fe.LogWeightAccumulator().result(), "no draws"),
        (lambda a: fe.LogWeightAccumulator(tail_draws=5000), "at most 4096, got 5000"),
        (lambda a: fe.LogWeightAccumulator(first_draw=100), "multiple of 8192, got 100"),
        (lambda a: fe.LogWeightAccumulator([0]), "iw_sizes"),
    ],
)
def test_bad_arguments(call, match):
    accumulator = filled([WEIGHTS])
    with pytest.raises(fe.errors.InvalidInputError, match=match):
        call(accumulator)
    assert bits(accumulator.result()) == whole()


@pytest.mark.parametrize("piece", [[1j], ["a"], [None], np.ma.zeros(3), np.zeros(3, np.longdouble)])
def test_bad_types(piece):
    with pytest.raises(fe.errors.UnsupportedDTypeError, match="log_weights"):
        fe.LogWeightAccumulator().update(piece)


# --- merging ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[1], [2], [1, 2], [0, 2]])
def test_merging_at_chunk_borders_is_exact(cuts):
    edges = [CHUNK * cut for cut in cuts]
    first, *rest = np.split(WEIGHTS, edges, axis=1)
    accumulator = filled([first], SIZES)
    for edge, piece in zip(edges, rest, strict=True):
        accumulator.merge(filled(np.array_split(piece, 3, axis=1), SIZES, first_draw=edge))
    assert accumulator.exact
    assert bits(accumulator.result()) == whole(sizes=SIZES)


def test_merging_right_to_left_is_exact():
    parts = [
        filled([WEIGHTS[:, CHUNK * c : CHUNK * (c + 1)]], first_draw=CHUNK * c) for c in range(3)
    ]
    parts[1].merge(parts[2])
    parts[0].merge(parts[1])
    parts[0].update(WEIGHTS[:, :5])
    expected = np.concatenate([WEIGHTS, WEIGHTS[:, :5]], axis=1)
    assert bits(parts[0].result()) == whole(expected)


def test_merging_into_nothing_and_of_nothing():
    accumulator = filled([])
    accumulator.merge(filled([]))
    accumulator.merge(filled([WEIGHTS]))
    accumulator.merge(filled([]))
    accumulator.merge(filled([WEIGHTS[:, :0]]))
    assert bits(accumulator.result()) == whole()


@pytest.mark.parametrize("cut", [1, 1003, CHUNK, CHUNK + 5, K - 1])
def test_merging_elsewhere_is_equal_to_rounding(cut):
    accumulator, other = filled([WEIGHTS[:, :cut]]), filled([WEIGHTS[:, cut:]])
    before = bits(other.result())
    accumulator.merge(other)
    assert not accumulator.exact
    assert bits(other.result()) == before
    got, expected = accumulator.result().to_dict(), fe.summarize(WEIGHTS).to_dict()
    for name in expected:
        if not name.startswith("iw_elbo"):
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-11, err_msg=name)
    # After a merge groups start again, and open groups are left out.
    for size in (10, 100):
        parts = [p[:, : p.shape[1] // size * size] for p in np.split(WEIGHTS, [cut], axis=1)]
        groups = np.concatenate(parts, axis=1)
        bound = fe.summarize(groups, iw_sizes=[size]).iw_elbo(size)
        np.testing.assert_allclose(got[f"iw_elbo_{size}"], bound.value, rtol=1e-11)
        np.testing.assert_allclose(got[f"iw_elbo_{size}_se"], bound.se, rtol=1e-11)
    accumulator.update(WEIGHTS)
    assert accumulator.result().n_samples == 2 * K


# --- checkpoints ------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 100, CHUNK, CHUNK + 100])
@pytest.mark.parametrize("first_draw", [0, CHUNK])
def test_a_checkpoint_goes_on_with_the_same_bits(tmp_path, cut, first_draw):
    path = tmp_path / "checkpoint.npz"
    accumulator = filled([WEIGHTS[:, :cut]], SIZES, first_draw=first_draw)
    accumulator.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]
    loaded = fe.LogWeightAccumulator.load(str(path))
    for each in (accumulator, loaded):
        each.update(WEIGHTS[:, cut:])
    assert bits(loaded.result()) == bits(accumulator.result())
    for each in (accumulator, loaded):
        start = filled([WEIGHTS[:, :first_draw]], SIZES)
        start.merge(each)
        assert start.exact
        joined = np.concatenate([WEIGHTS[:, :first_draw], WEIGHTS], axis=1)
        assert bits(start.result()) == whole(joined, SIZES)


def test_a_checkpoint_of_nothing(tmp_path):
    filled([], [3], tail_draws=50).save(tmp_path / "a")
    loaded = fe.LogWeightAccumulator.load(tmp_path / "a")
    assert (loaded.iw_sizes, loaded.tail_draws, loaded.batch_shape) == ((3,), 50, None)
    loaded.update(WEIGHTS)
    assert bits(loaded.result()) == bits(filled([WEIGHTS], [3], tail_draws=50).result())


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint"
    filled([WEIGHTS]).save(path)
    return path


def test_a_damaged_checkpoint_is_refused(checkpoint):
    content = checkpoint.read_bytes()
    for cut in (0, 1, 100, len(content) // 2, len(content) - 1):
        checkpoint.write_bytes(content[:cut])
        with pytest.raises(fe.errors.CheckpointError, match="checkpoint"):
            fe.LogWeightAccumulator.load(checkpoint)
    for place in range(0, len(content), len(content) // 40):
        changed = bytearray(content)
        changed[place] ^= 1
        checkpoint.write_bytes(changed)
        try:
            loaded = fe.LogWeightAccumulator.load(checkpoint)
        except fe.errors.CheckpointError:
            continue
        # The changed bit belongs to the archive's own bookkeeping, and no result depends on it.
        assert bits(loaded.result()) == whole()


def rewritten(checkpoint, **changes):
    with np.load(checkpoint) as file:
        content = {name: file[name] for name in file.files} | changes
    with checkpoint.open("wb") as file:
        np.savez(file, **content)


def test_a_changed_checkpoint_is_refused(checkpoint):
    rewritten(checkpoint, pending=np.zeros((3, 1234)))
    with pytest.raises(fe.errors.CheckpointError, match="checksum"):
        fe.LogWeightAccumulator.load(checkpoint)


def test_nothing_is_unpickled(checkpoint):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was read",))

    rewritten(checkpoint, pending=np.array([Bomb()], dtype=object))
    with pytest.raises(fe.errors.CheckpointError, match="cannot be read"):
        fe.LogWeightAccumulator.load(checkpoint)
    checkpoint.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(fe.errors.CheckpointError, match="cannot be read"):
        fe.LogWeightAccumulator.load(checkpoint)


def test_other_versions_and_missing_files(monkeypatch, tmp_path):
    stream = STREAM_VERSION + 3
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "ACCUMULATOR", checkpoints.ACCUMULATOR._replace(version=4))
        filled([WEIGHTS]).save(tmp_path / "later")
    with monkeypatch.context() as patch:
        patch.setitem(checkpoints._FORMAT, "stream_version", stream)
        filled([WEIGHTS]).save(tmp_path / "stream")
    for name, match in (
        ("later", r"'version': 4.*'version': 3"), ("stream", f"'stream_version': {stream}}}, exp"),
    ):  # fmt: skip
        with pytest.raises(fe.errors.CheckpointMismatchError, match=match):
            fe.LogWeightAccumulator.load(tmp_path / name)
    with pytest.raises(fe.errors.CheckpointError, match="missing"):
        fe.LogWeightAccumulator.load(tmp_path / "missing")
    with pytest.raises(fe.errors.CheckpointError, match="cannot be written"):
        filled([WEIGHTS]).save(tmp_path / "no folder" / "a")


# Files that earlier versions wrote: of these weights, by an accumulator that begins at draw 0, and
# by one that begins at draw 8192.
EARLIER_VERSIONS = Path(__file__).parent / "checkpoints"
FIRST_WEIGHTS = np.random.default_rng(7).normal(size=(2, CHUNK + 40)).round(3)


def assert_known_to_version_1(got, expected, but=()):
    """Equal to rounding, but for what the tail of the ELBO decides: version 1 did not follow it."""
    got, expected = got.to_dict(), expected.to_dict()
    for name in expected.keys() - {"pareto_k_elbo", "elbo_se", "jensen_gap_se"}:
        if not name.startswith(tuple(but)):
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-12, err_msg=name)


def test_version_1_goes_on():
    loaded = fe.LogWeightAccumulator.load(EARLIER_VERSIONS / "version_1.npz")
    assert (loaded.iw_sizes, loaded.tail_draws, loaded.exact) == ((3, 100), 50, False)
    fresh = filled([FIRST_WEIGHTS], (3, 100), tail_draws=50)
    np.testing.assert_allclose(loaded.result().elbo_se, fresh.result().elbo_se, rtol=1e-12)
    for _ in range(2):
        assert_known_to_version_1(loaded.result(), fresh.result())
        assert np.isnan(loaded.result().pareto_k_elbo).all()
        more = np.random.default_rng(8).standard_t(2, (2, 3 * CHUNK))
        fresh.update(more)
        loaded.update(more)


def test_version_1_merges_and_is_saved_again(tmp_path):
    worker = fe.LogWeightAccumulator.load(EARLIER_VERSIONS / "version_1_part.npz")
    worker.save(tmp_path / "again")
    first = np.random.default_rng(9).normal(size=(2, CHUNK))
    whole = filled([first, FIRST_WEIGHTS], (3, 100), tail_draws=50).result()
    for other in (worker, fe.LogWeightAccumulator.load(tmp_path / "again")):
        start = filled([first], (3, 100), tail_draws=50)
        start.merge(other)
        # Other bits, so that groups start anew.
        assert not start.exact
        assert_known_to_version_1(start.result(), whole, but=["iw_elbo"])
        # The smallest log weights of one part alone are not those of all.
        assert np.isnan(start.result().pareto_k_elbo).all()


def test_version_2_goes_on(tmp_path):
    loaded = fe.LogWeightAccumulator.load(EARLIER_VERSIONS / "version_2.npz")
    assert (loaded.iw_sizes, loaded.tail_draws, loaded.exact) == ((3, 100), 50, False)
    fresh = filled([FIRST_WEIGHTS], (3, 100), tail_draws=50)
    more = np.random.default_rng(8).standard_t(2, (2, 3 * CHUNK))
    for _ in range(2):
        # Up to 8.4 million draws the bits are the same.
        assert bits(loaded.result()) == bits(fresh.result())
        fresh.update(more)
        loaded.update(more)
    part = fe.LogWeightAccumulator.load(EARLIER_VERSIONS / "version_2_part.npz")
    part.save(tmp_path / "again")
    first = np.random.default_rng(9).normal(size=(2, CHUNK))
    start = filled([first], (3, 100), tail_draws=50)
    start.merge(fe.LogWeightAccumulator.load(tmp_path / "again"))
    fresh = filled([first, FIRST_WEIGHTS], (3, 100), tail_draws=50).result()
    assert start.result().log_evidence == pytest.approx(fresh.log_evidence, rel=1e-12)
    np.testing.assert_array_equal(start.result().pareto_k, fresh.pareto_k)


def test_the_first_checkpoints_did_not_name_their_stream(tmp_path):
    with np.load(EARLIER_VERSIONS / "version_1.npz") as file:
        content = {name: file[name] for name in file.files if name != "checksum"}
    facts = json.loads(content["header"].tobytes())
    del facts["stream_version"]
    content["header"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    content["checksum"] = np.frombuffer(checkpoints._checksum(content), np.uint8)
    np.savez(tmp_path / "unnamed.npz", **content)
    loaded = fe.LogWeightAccumulator.load(tmp_path / "unnamed.npz")
    assert loaded.n_samples == FIRST_WEIGHTS.shape[1]


@pytest.mark.parametrize(("stream", "exact"), [(1, False), (3, False), (4, True)])
def test_a_checkpoint_of_an_older_stream_is_not_exact(tmp_path, stream, exact, monkeypatch):
    monkeypatch.setitem(checkpoints._FORMAT, "stream_version", stream)
    filled([WEIGHTS[:, :CHUNK]]).save(tmp_path / "older.npz")
    monkeypatch.undo()
    loaded = fe.LogWeightAccumulator.load(tmp_path / "older.npz")
    assert loaded.exact == exact
    assert bits(loaded.result()) == whole(WEIGHTS[:, :CHUNK])


def test_a_failed_write_leaves_the_old_checkpoint(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(fe.errors.CheckpointError, match="no space left"):
        filled([WEIGHTS[:, :5]]).save(checkpoint)
    assert checkpoint.read_bytes() == before
    assert len(list(checkpoint.parent.iterdir())) == 1


def test_a_checkpoint_is_an_ordinary_archive(checkpoint):
    with zipfile.ZipFile(io.BytesIO(checkpoint.read_bytes())) as archive:
        assert archive.testzip() is None


# --- streams that are hard to sum -------------------------------------------------------------


def assert_exact(value, exact, n):
    """Check the error bound of a compensated sum of exponentials."""
    tolerance = np.spacing(abs(exact)) / 2 + 2.0**-53 * (3.0 * np.log(n) + 2 + np.log2(CHUNK) + 4)
    assert abs(value - exact) <= tolerance


def test_ascending_weights():
    n, step = 10**6, 1e-9
    accumulator = filled(step * np.arange(lo, lo + 9999) for lo in range(0, n - 9998, 9999))
    n = accumulator.n_samples
    exact = np.log(np.expm1(n * step) / np.expm1(step) / n)
    # Each log weight is rounded, by at most 1e-19. The exact sum has three roundings.
    result = accumulator.result()
    assert_exact(result.log_evidence, exact, n)
    assert result.elbo == pytest.approx(step * (n - 1) / 2, rel=1e-15)


def test_one_large_weight_and_a_million_small_ones():
    n = 10**6
    accumulator = filled([[0.0], *np.full((100, n // 100), -36.8)])
    exact = np.log1p(n * np.exp(-36.8)) - np.log(n + 1.0)
    assert_exact(accumulator.result().log_evidence, exact, n)
    rest = accumulator.result().log_evidence + np.log(n + 1.0)
    assert rest == pytest.approx(n * np.exp(-36.8), rel=1e-4)


def test_a_thousand_million_equal_weights():
    piece = np.full(10**7, -1.25)
    result = filled([piece] * 100, tail_draws=1000).result()
    assert result.n_samples == 10**9
    assert result.log_evidence == -1.25
    assert result.elbo == pytest.approx(-1.25, rel=1e-15)
    assert result.ess == 1e9
    assert result.log_evidence_se == 0.0


def test_merge_with_itself_is_refused():
    accumulator = fe.LogWeightAccumulator()
    accumulator.update(np.zeros(100))
    with pytest.raises(fe.errors.InvalidInputError, match=r"other must be another .* count twice"):
        accumulator.merge(accumulator)
    assert accumulator.n_samples == 100


def test_tails_are_kept_where_those_of_the_result_fit(monkeypatch):
    # Up to 4096 log weights are stored while draws stream; the result has fewer.
    weights = np.random.default_rng(3).normal(size=(3, 1000))
    monkeypatch.setattr("fastelbo.engine.states._TAIL_BYTES", 8 * 3 * 100)
    expected, found = fe.summarize(weights), filled([weights]).result()
    assert found._tail.tobytes() == expected._tail.tobytes()
    for quantity in ("log_evidence", "jensen_gap"):
        pairs = zip(*(est.confidence_interval(quantity) for est in (found, expected)), strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)
