"""The store on disk: whole or missing, read as an array is read, and selected from as arrays are."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, List, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign import MDaQSelector
from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq import shards
from hf_mlalign.mdaq import shards as disk_matrix
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.shards import DiskMatrix, ShardStore, copy_in_shards
from hf_mlalign.models import kmeans
from hf_mlalign.models.kmeans import to_float16
from tests.mdaq.helpers import LengthScorer


def filled(folder, scores, vectors, shard_rows) -> ShardStore:
    store = ShardStore(folder, len(scores), vectors.shape[1], shard_rows)
    for begin, end in store.missing():
        store.write(begin, scores[begin:end], vectors[begin:end])
    return store


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(shards, "BATCH_ROWS", 5)


@pytest.fixture(scope="module")
def matrices(tmp_path_factory):
    """The same 47 × 3 numbers in shards of several sizes, with batches of five rows and gaps of at most two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BATCH_ROWS", 5)
        patch.setattr(disk_matrix, "GAP_BYTES", 12)
        x = np.random.default_rng(0).standard_normal((47, 3)).astype(np.float32)
        folder = tmp_path_factory.mktemp("matrices")
        yield to_float16(x), [filled(folder / str(m), x[:, 0], x, m).vectors() for m in (1, 7, 12, 47, 100)]


def test_what_is_written_is_read(tmp_path, small_batches):
    scores = np.array([0.5, np.nan, -np.inf, 2, 3, np.nan, 7], np.float32)
    vectors = np.arange(14, dtype=np.float64).reshape(7, 2) / 3
    store = ShardStore(tmp_path / "store", 7, 2, 3)
    assert store.missing() == [(0, 3), (3, 6), (6, 7)]
    store.write(3, scores[3:6], vectors[3:6])
    assert store.missing() == [(0, 3), (6, 7)]
    with pytest.raises(DataError, match="lacks rows 0 to 3"):
        store.scores()
    filled(tmp_path / "store", scores, vectors, 3)
    again = ShardStore(tmp_path / "store", 7, 2, 3)
    assert again.missing() == []
    np.testing.assert_array_equal(again.scores(), scores)
    np.testing.assert_array_equal(again.vectors()[:], vectors.astype(np.float16))
    names = sorted(path.name for path in (tmp_path / "store").iterdir())
    assert names == [f"rows-{b:010d}-{e:010d}.arrow" for b, e in ((0, 3), (3, 6), (6, 7))]
    table = pa.ipc.open_file(str(tmp_path / "store" / names[0])).read_all()
    assert table["quality_score"].to_pylist() == [0.5, None, float("-inf")]
    assert table["embedding"].type == pa.list_(pa.float16(), 2)


def test_a_store_without_rows(tmp_path):
    store = ShardStore(tmp_path, 0, 4, 10)
    assert store.missing() == []
    assert store.scores().shape == (0,)
    assert store.vectors()[:].shape == (0, 4)


@pytest.mark.parametrize(
    ("begin", "rows", "width"), [(1, 3, 2), (9, 1, 2), (-3, 3, 2), (0, 2, 2), (0, 3, 3), (6, 3, 2)]
)
def test_what_is_no_shard_is_refused(tmp_path, begin, rows, width):
    store = ShardStore(tmp_path, 7, 2, 3)
    with pytest.raises(DataError, match="shards start at multiples of 3|have shapes"):
        store.write(begin, np.zeros(rows), np.zeros((rows, width)))
    assert not list(tmp_path.iterdir())


def test_damaged_shards_count_as_missing(tmp_path, small_batches):
    rng = np.random.default_rng(0)
    scores, vectors = rng.random(60).astype(np.float32), rng.standard_normal((60, 4))
    store = filled(tmp_path, scores, vectors, 10)
    whole = {begin: store.path(begin).read_bytes() for begin, _ in store.shards()}
    store.path(0).write_bytes(whole[0][:-5])
    store.path(10).write_bytes(b"")
    place = whole[20].index(to_float16(vectors[24:25]).tobytes())
    store.path(20).write_bytes(whole[20][:place] + b"\x00\x01" + whole[20][place + 2 :])
    store.path(30).write_bytes(pickle.dumps({"a": 1}))  # no pickle is ever loaded
    ShardStore(tmp_path / "other", 10, 5, 10).write(0, scores[:10], np.zeros((10, 5)))
    store.path(40).write_bytes((tmp_path / "other" / store.path(0).name).read_bytes())
    assert ShardStore(tmp_path, 60, 4, 10).missing() == [(b, b + 10) for b in (0, 10, 20, 30, 40)]
    again = filled(tmp_path, scores, vectors, 10)
    np.testing.assert_array_equal(again.vectors()[:], to_float16(vectors))
    assert {begin: store.path(begin).read_bytes() for begin in whole} == whole
    assert not list(tmp_path.glob("*.partial"))


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path):
    store = ShardStore(tmp_path, 4, 2, 4)
    store.path(0).mkdir()
    with pytest.raises(OSError):
        store.write(0, np.zeros(4), np.zeros((4, 2)))
    assert [path.name for path in tmp_path.iterdir()] == [store.path(0).name]
    assert store.missing() == [(0, 4)]


bounds = st.one_of(st.none(), st.integers(-60, 60))


@settings(max_examples=150, deadline=None)
@given(bounds, bounds, st.sampled_from([None, 1, 2, 7, -1, -3]))
def test_slices_as_of_an_array(matrices, start, stop, step):
    expected, found = matrices
    for matrix in found:
        part = matrix[start:stop:step]
        assert part.dtype == np.float16
        np.testing.assert_array_equal(part, expected[start:stop:step])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-47, 46), max_size=60), st.booleans())
def test_row_numbers_as_of_an_array(matrices, rows, ascending):
    expected, found = matrices
    rows = np.array(sorted(rows) if ascending else rows, dtype=np.int64)
    for matrix in found:
        np.testing.assert_array_equal(matrix[rows], expected[rows])
        np.testing.assert_array_equal(matrix[rows.astype(np.int8)], expected[rows])


def test_masks_single_rows_and_what_is_out_of_range(matrices):
    expected, found = matrices
    mask = expected[:, 0] > 0
    for matrix in found:
        np.testing.assert_array_equal(matrix[mask], expected[mask])
        np.testing.assert_array_equal(matrix[3], expected[3])
        np.testing.assert_array_equal(matrix[[[1, 2], [46, -47]]], expected[[[1, 2], [46, -47]]])
        np.testing.assert_array_equal(np.asarray(matrix, dtype=np.float32), expected.astype(np.float32))
        assert (matrix.shape, len(matrix), matrix.size, matrix.ndim) == ((47, 3), 47, 141, 2)
        for wrong in ([47], [-48], mask[:-1], [0.5]):
            with pytest.raises(IndexError):
                matrix[wrong]


def test_many_threads_and_a_pickled_matrix(matrices):
    expected, found = matrices
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 47, 20) for _ in range(200)]
    matrix = pickle.loads(pickle.dumps(found[1]))
    with ThreadPoolExecutor(8) as pool:
        for rows, part in zip(parts, pool.map(matrix.__getitem__, parts), strict=True):
            np.testing.assert_array_equal(part, expected[rows])


def test_a_file_cut_off_while_it_is_read(tmp_path):
    store = filled(tmp_path, np.zeros(9, np.float32), np.ones((9, 4)), 9)
    vectors = store.vectors()
    store.path(0).write_bytes(store.path(0).read_bytes()[:200])
    with pytest.raises(OSError, match="became shorter"):
        vectors[:]


def pool(n: int, d: int = 16, seed: int = 0):
    """Scores, languages and vectors with duplicates, zero vectors, rows without score and unwanted rows."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d)) + 0.5 * rng.standard_normal((30, d))[rng.integers(0, 30, n)]
    vectors[rng.random(n) < 0.02] = 0
    vectors[n // 2 : n // 2 + 40] = vectors[0]
    scores = np.round(rng.standard_normal(n), 1).astype(np.float32)
    scores[rng.random(n) < 0.05] = np.nan
    vectors[np.flatnonzero(np.isnan(scores))[0]] = np.nan
    languages = np.array(["de", "ja", "sw", ""])[rng.choice(4, n, p=[0.6, 0.3, 0.08, 0.02])]
    return scores, languages, vectors.astype(np.float32)


def same_selection(a, b) -> None:
    for name in ("selected", "scores", "clusters", "reasons", "languages"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.notes, a.budgets) == (b.notes, b.budgets)


@pytest.mark.parametrize("method", ["das", "quality", "random", "car", "deita", "mmr"])
def test_selection_from_disk_is_that_from_memory(tmp_path, monkeypatch, method):
    scores, languages, vectors = pool(3000)
    selector = MDaQSelector(80, 40, method=method, n_clusters=20)
    expected = selector.select_from(scores, languages, vectors)
    assert len(expected.selected) > 100
    same_selection(selector.select_from(scores, languages, to_float16(vectors)), expected)
    before = faiss.omp_get_max_threads()
    try:
        for shard_rows, threads, copied in ((64, 1, True), (1000, 2, True), (3000, 2, False)):
            faiss.omp_set_num_threads(threads)
            if not copied:
                monkeypatch.setattr(kmeans, "DISK_COPY_BYTES", 0)
            store = filled(tmp_path / str(shard_rows), scores, vectors, shard_rows)
            same_selection(selector.select_from(store.scores(), languages, store.vectors()), expected)
    finally:
        faiss.omp_set_num_threads(before)


def test_a_sample_trains_and_only_blocks_are_read(tmp_path, monkeypatch):
    """10,000 rows, 2 × 20 centroids: each language trains on 1,280 of its rows, and no block is larger than that."""
    scores, languages, vectors = pool(10_000)
    sizes = []

    class Watched(DiskMatrix):
        def __getitem__(self, key):
            block = super().__getitem__(key)
            sizes.append(len(block))
            return block

    monkeypatch.setattr(kmeans, "SEARCH_BLOCK", 512)
    monkeypatch.setattr(kmeans, "SUM_BLOCK", 512)
    selector = MDaQSelector(80, 40, n_clusters=20)
    expected = selector.select_from(scores, languages, vectors)
    matrix = filled(tmp_path, scores, vectors, 700).vectors()
    matrix.__class__ = Watched
    same_selection(selector.select_from(scores, languages, matrix), expected)
    assert any("de: trained the centroids on a sample of 1216 of" in note for note in expected.notes)
    assert 0 < max(sizes) <= 512


def test_selection_sees_vectors_rounded_to_float16():
    """Two directions that float32 tells apart and float16 does not."""
    vectors = np.array([[1, 0], [1, 1e-9]] * 3, np.float32)
    for x in (vectors, vectors.astype(np.float64), to_float16(vectors)):
        found = MDaQSelector(1, 1, n_clusters=2).select_from(np.zeros(6, np.float32), np.full(6, "de"), x)
        assert found.clusters.tolist() == [0] * 6
        assert "de: made 1 of 2 clusters (only 1 distinct row)" in found.notes


def test_vectors_beyond_float16_and_another_number_of_rows():
    scores, languages = np.zeros(3, np.float32), np.array(["de", "", "de"])
    with pytest.raises(DataError, match="beyond float16, the first is row 2"):
        MDaQSelector(1, 1).select_from(scores, languages, np.array([[1.0, 0], [1e9, 0], [1e9, 1]]))
    with pytest.raises(DataError, match="embeddings has 2 .* for 3 scores"):
        MDaQSelector(1, 1).select_from(scores, languages, np.ones((2, 2)))


def test_a_method_that_holds_vectors_says_what_it_needs():
    languages = np.repeat(["de", "ja", ""], [10, 30, 50])
    selector = MDaQSelector(method="deita")
    selector.check_memory(languages, 1000, 30 * 1000 * 16)
    selector.check_memory(languages, 1000, None)
    with pytest.raises(DataError, match="'deita' holds .* ja with 30 rows needs about 0.0 GB"):
        selector.check_memory(languages, 1000, 30 * 1000 * 16 - 1)
    MDaQSelector(method="das").check_memory(languages, 1000, 1)


@pytest.fixture(scope="module")
def scored() -> Dataset:
    scores, languages, vectors = pool(600)
    return Dataset.from_dict({
        "instruction": [f"question {i}" for i in range(600)], "response": [f"answer {i}" for i in range(600)],
        "language": np.where(languages == "", "en", languages), "embedding": np.nan_to_num(vectors).tolist(),
        "quality_score": [None if np.isnan(s) else s for s in scores],
    }).cast_column("quality_score", Value("float32"))  # fmt: skip


@pytest.mark.parametrize(
    "kind", [List(Value("float32")), List(Value("float16"), length=16), List(Value("float64"), length=16)]
)
def test_curate_takes_scores_that_are_there(scored, tmp_path, kind):
    ds = scored.cast(Features({**scored.features, "embedding": kind})).shuffle(seed=1)
    ds.to_parquet(tmp_path / "scored.parquet")
    selector = MDaQSelector(30, 10, n_clusters=15)
    arrays = selector.prepare(ds)
    expected = selector.select_from(**arrays)
    lines: list[str] = []
    done = curate(str(tmp_path / "scored.parquet"), tmp_path / "out", n_quality=30, n_diversity=10, n_clusters=15,
                  shard_rows=70, on_step=lines.append)  # fmt: skip
    same_selection(done.result, expected)
    assert any(line.startswith("Reading quality_score and embedding from the source") for line in lines)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["results"]["scores"] == "source"
    assert done.dataset["instruction"][:] == ds.select(expected.selected)["instruction"][:]
    table = load_dataset("parquet", data_files=str(tmp_path / "out" / "scores.parquet"), split="train")
    assert table["selection_reason"][:] == expected.reasons.tolist()
    assert table["language"][:] == ds["language"][:]


def test_curate_scores_again_where_a_scorer_is_given(scored, tmp_path):
    done = curate(scored, tmp_path / "out", n_quality=3, n_diversity=1, n_clusters=5, scorer=LengthScorer())
    assert json.loads((tmp_path / "out" / "run.json").read_text())["results"]["scores"] == "model"
    assert done.result.scores[0] == pytest.approx(-np.hypot(2, 1))  # "question 0" against "answer 0"


def test_columns_that_hold_something_else(scored, tmp_path):
    texts = scored.remove_columns("quality_score").add_column("quality_score", ["x"] * 600)
    with pytest.raises(DataError, match="'quality_score' holds string, not numbers"):
        curate(texts, tmp_path / "a")
    rows = scored.to_list()
    rows[555]["embedding"] = rows[555]["embedding"][:-1]
    with pytest.raises(DataError, match="'embedding', row 555: a vector of length 16"):
        copy_in_shards(Dataset.from_list(rows), tmp_path / "b", shard_rows=100)
    rows[555]["embedding"] = None
    with pytest.raises(DataError, match="'embedding', row 555"):
        copy_in_shards(Dataset.from_list(rows), tmp_path / "c", shard_rows=100)
