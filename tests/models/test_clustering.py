"""K-means: exact partitions of separated data, the same bits for any thread count, every odd input."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.models import kmeans
from hf_mlalign.models.clustering import (
    cluster,
    cluster_by_language,
    coverage,
    default_n_clusters,
    group_rows,
    text_codes,
)


def groups(n_groups=5, size=20, d=8, seed=0, shuffle=True):
    """Rows around orthogonal directions, and the group of each row numbered by first appearance."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(n_groups), size)
    if shuffle:
        truth = rng.permutation(truth)
    x = (np.eye(d)[truth] + 0.01 * rng.standard_normal((len(truth), d))).astype(np.float32)
    return x, first_appearance(truth)


def first_appearance(labels):
    number = {}
    return np.array([number.setdefault(label, len(number)) for label in labels.tolist()])


def blobs(n=3000, d=32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) + 3 * rng.standard_normal((40, d))[rng.integers(0, 40, n)]
    return x.astype(np.float32)


@pytest.mark.parametrize("spherical", [True, False])
def test_separated_groups_are_found(spherical):
    x, truth = groups()
    for seed in range(5):
        got = cluster(x, 5, seed=seed, n_iter=50, spherical=spherical)
        if got.n_clusters == 5 and np.array_equal(got.labels, truth):
            break
    assert got.labels.tolist() == truth.tolist()
    assert got.labels.dtype == np.int32
    assert got.centroids.shape == (5, 8)
    assert got.centroids.dtype == np.float32
    assert got.notes == ()


@pytest.mark.parametrize("spherical", [True, False])
def test_labels_centroids_and_objective_belong_together(spherical):
    x = blobs()
    got = cluster(x, 40, n_iter=100, spherical=spherical)
    rows = x / np.linalg.norm(x, axis=1, keepdims=True) if spherical else x
    distance = ((rows[:, None] - got.centroids[None]) ** 2).sum(axis=2)
    chosen = distance[np.arange(len(x)), got.labels]
    assert (chosen <= distance.min(axis=1) + 1e-3).all()
    assert got.n_iter < 100
    means = np.stack([rows[got.labels == c].mean(axis=0) for c in range(got.n_clusters)])
    if spherical:
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(got.objective, 1 - chosen.mean() / 2, rtol=1e-4)
    else:
        np.testing.assert_allclose(got.objective, chosen.mean(), rtol=1e-3)
    np.testing.assert_allclose(got.centroids, means, atol=1e-4)


def test_as_good_as_faiss():
    import faiss

    x = blobs(6000)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    bare = faiss.Kmeans(32, 100, niter=20, seed=1, spherical=True, min_points_per_centroid=1)
    bare.train(x)
    expected = bare.assign(x)[0].mean()
    assert cluster(x, 100).objective > expected - 0.01


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 40), st.booleans())
def test_labels_are_canonical_and_complete(seed, n, k, spherical):
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (n, 3)).astype(np.float32)
    got = cluster(x, k, seed=seed, spherical=spherical)
    assert got.labels.tolist() == first_appearance(got.labels).tolist()
    assert got.n_clusters == len(got.centroids) == got.labels.max() + 1 <= min(n, k)
    assert np.isfinite(got.centroids).all()
    assert np.isfinite(got.objective)
    again = cluster(x, k, seed=seed, spherical=spherical)
    assert again.labels.tolist() == got.labels.tolist()


def test_a_partition_does_not_depend_on_block_size_alone(monkeypatch):
    x, truth = groups(size=50)
    monkeypatch.setattr(kmeans, "SEARCH_BLOCK", 64)
    monkeypatch.setattr(kmeans, "SUM_BLOCK", 100)
    found = [cluster(x, 5, seed=seed).labels.tolist() for seed in range(5)]
    assert truth.tolist() in found


SCRIPT = """
import hashlib, sys
import numpy as np
from hf_mlalign.models.clustering import cluster
threads = None if sys.argv[1] == "environment" else int(sys.argv[1])
digest = hashlib.sha256()
settings = [(8000, 256, 300, True), (4000, 1024, 50, True), (5000, 64, 100, False), (3000, 17, 30, True)]
for n, d, k, spherical in settings:
    rng = np.random.default_rng(n + d)
    x = rng.standard_normal((n, d), dtype=np.float32)
    x += rng.standard_normal((20, d), dtype=np.float32)[rng.integers(0, 20, n)]
    got = cluster(x, k, n_iter=6, seed=7, spherical=spherical, n_threads=threads)
    for part in (got.labels, got.centroids, np.float64(got.objective)):
        digest.update(part.tobytes())
print(digest.hexdigest())
"""


def test_same_bits_for_any_thread_count():
    def run(threads, omp):
        environment = {**os.environ, "OMP_NUM_THREADS": omp, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-c", SCRIPT, threads]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    runs = [("1", "1"), ("2", "2"), ("4", "4"), ("3", "1"), ("environment", "2"), ("environment", "1")]
    digests = {setting: run(*setting) for setting in runs}
    assert len(set(digests.values())) == 1, digests


def test_the_callers_threads_are_left_alone():
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        cluster(blobs(500), 10, n_iter=2)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("spherical", [True, False])
def test_input_layouts_agree(spherical, tmp_path):
    x = np.round(blobs(2000, 16), 1).astype(np.float16).astype(np.float32)
    expected = cluster(x, 30, spherical=spherical)
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((2000, 40), dtype=np.float32)
    wide[:, 3:35:2] = x
    layouts = {
        "float16": x.astype(np.float16),
        "float64": x.astype(np.float64),
        "fortran": np.asfortranarray(x),
        "strided": wide[:, 3:35:2],
        "memmap": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "list": x.tolist(),
    }
    for name, layout in layouts.items():
        got = cluster(layout, 30, spherical=spherical)
        assert got.labels.tolist() == expected.labels.tolist(), name
        assert got.centroids.tobytes() == expected.centroids.tobytes(), name


@pytest.mark.parametrize("spherical", [True, False])
def test_reading_in_place_and_from_a_copy_agree(monkeypatch, spherical):
    x = blobs(3000)[::-1]
    expected = cluster(x, 5, spherical=spherical, max_points_per_centroid=100)
    monkeypatch.setattr(kmeans, "COPY_BYTES", 0)
    monkeypatch.setattr(kmeans, "COPY_SHARE", 0)
    got = cluster(x, 5, spherical=spherical, max_points_per_centroid=100)
    assert got.labels.tolist() == expected.labels.tolist()
    assert got.centroids.tobytes() == expected.centroids.tobytes()
    assert expected.notes == ("trained the centroids on a sample of 500 of 3000 rows",)


def test_input_is_not_changed():
    x = blobs(300)
    before = x.copy()
    x.flags.writeable = False
    cluster(x, 10)
    assert (x == before).all()


def test_one_row():
    got = cluster([[3.0, 4.0]], 7)
    assert got.labels.tolist() == [0]
    np.testing.assert_allclose(got.centroids, [[0.6, 0.8]], rtol=1e-6)
    assert got.notes == ("made 1 of 7 clusters (only 1 row)",)


def test_all_rows_the_same():
    got = cluster(np.full((50, 4), 2.0), 5)
    assert got.labels.tolist() == [0] * 50
    assert got.n_clusters == 1
    assert got.notes == ("made 1 of 5 clusters (only 1 distinct row)",)
    assert got.objective == pytest.approx(1.0)


def test_fewer_distinct_rows_than_clusters():
    x = np.repeat(np.eye(3, dtype=np.float32), [5, 1, 4], axis=0)
    for spherical in (True, False):
        got = cluster(x, 6, spherical=spherical)
        assert got.labels.tolist() == [0] * 5 + [1] + [2] * 4
        assert "only 3 distinct rows" in got.notes[0]


def test_mostly_duplicates_still_fill_every_cluster():
    rng = np.random.default_rng(0)
    x = np.concatenate([np.tile(rng.standard_normal((1, 8)), (5000, 1)), rng.standard_normal((60, 8))])
    got = cluster(x, 61, n_iter=50)
    assert got.n_clusters == 61
    assert (got.labels[:5000] == 0).all()


def test_as_many_clusters_as_rows():
    x = blobs(40)
    assert cluster(x, 40).labels.tolist() == list(range(40))


def test_zero_vectors_form_their_own_cluster():
    x, truth = groups(2, 10, shuffle=False)
    x[[0, 5, 12]] = 0
    got = cluster(x, 3)
    truth[[0, 5, 12]] = 9
    assert got.labels.tolist() == first_appearance(truth).tolist()
    assert got.centroids[0].tolist() == [0.0] * 8
    assert got.notes == ("put 3 zero vectors without direction into a cluster of their own",)
    assert cluster(x, 1).labels.tolist() == [0] * 20
    only = cluster(np.zeros((4, 3)), 2)
    assert only.labels.tolist() == [0] * 4
    assert only.n_clusters == 1
    assert np.array_equal(cluster(x, 3, spherical=False).labels[[0, 5, 12]], [0, 0, 0])


def test_bad_rows_raise_or_are_masked():
    x, truth = groups(2, 10, shuffle=False)
    x[3, 2], x[15, 0] = np.nan, np.inf
    with pytest.raises(DataError, match="embeddings has 2 rows with NaN.*the first is row 3"):
        cluster(x, 2)
    got = cluster(x, 2, bad_rows="mask")
    expected = truth.copy()
    expected[[3, 15]] = -1
    assert got.labels.tolist() == expected.tolist()
    assert got.notes == ("masked 2 rows with NaN or infinity (label -1)",)
    nothing = cluster(np.full((3, 2), np.nan), 2, bad_rows="mask")
    assert nothing.labels.tolist() == [-1, -1, -1]
    assert nothing.n_clusters == 0


def test_values_beyond_float32_are_bad_and_extreme_lengths_are_not():
    with pytest.raises(DataError, match="values beyond float32"):
        cluster(np.array([[1e300, 0.0], [1.0, 1.0]]), 2)
    got = cluster(np.array([[1e25, 0], [1e-25, 0], [0, 1e25], [0, 1e-25]]), 2)
    assert got.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros(3), 2), {}, r"embeddings has shape \(3,\)"),
        ((np.zeros((0, 3)), 2), {}, "nothing to cluster"),
        ((np.array([["a"]]), 1), {}, "embeddings has dtype"),
        ((np.ones((3, 2)), 0), {}, "n_clusters is 0"),
        ((np.ones((3, 2)), 1.5), {}, r"n_clusters is 1\.5"),
        ((np.ones((3, 2)), 1), {"bad_rows": "drop"}, "bad_rows is 'drop'"),
        ((np.ones((3, 2)), 1), {"n_iter": -1}, "n_iter is -1"),
        ((np.ones((3, 2)), 1), {"n_threads": 0}, "n_threads is 0"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(DataError, match=message):
        cluster(*arguments, **options)


def test_default_number_of_clusters():
    k = default_n_clusters(52_000)
    left = 1 - 6000 / 52_000
    assert k * left ** (52_000 / k) >= 1000 > (k - 1) * left ** (52_000 / (k - 1))
    assert default_n_clusters(52_000, 6000, 0) == 161  # CaR: ⌊√26000⌋
    assert default_n_clusters(1000, 900, 100) == 250  # cannot leave 100 uncovered: four rows a cluster
    assert default_n_clusters(1) == 1
    assert default_n_clusters(0) == 0
    assert cluster(blobs(200), n_quality=20, n_diversity=5).n_clusters == default_n_clusters(200, 20, 5)


@given(st.integers(1, 10**6), st.integers(0, 10**5), st.integers(0, 10**4))
def test_default_number_of_clusters_is_within_bounds(n, nq, nd):
    k = default_n_clusters(n, nq, nd)
    low = max(1, int((n // 2) ** 0.5))
    assert low <= k <= max(low, n // 4)


def test_default_leaves_enough_clusters_uncovered():
    x, scores = blobs(4000), np.random.default_rng(1).standard_normal(4000)
    labels = cluster(x, n_quality=400, n_diversity=100).labels
    top = np.argsort(-scores)[:400]
    assert len(np.unique(labels)) - len(np.unique(labels[top])) >= 100


def test_languages_are_clustered_apart_with_unique_ids():
    x, truth = groups(3, 12)
    languages = np.where(np.arange(36) % 3 == 0, "sw", "de")
    got = cluster_by_language(x, languages, 3, seed=1)
    assert list(got.by_language) == ["de", "sw"]
    assert got.offsets == {"de": 0, "sw": got.by_language["de"].n_clusters}
    assert got.n_clusters == len(np.unique(got.labels)) == got.labels.max() + 1
    for name in ("de", "sw"):
        rows = languages == name
        assert (got.labels[rows] == got.by_language[name].labels + got.offsets[name]).all()
    assert not set(got.labels[languages == "de"]) & set(got.labels[languages == "sw"])
    assert len(truth) == len(got.labels)


def test_a_language_does_not_depend_on_the_others():
    x = blobs(900)
    languages = np.array(["de", "ar", "sw"])[np.random.default_rng(0).integers(0, 3, 900)]
    mixed = cluster_by_language(x, languages, 20).by_language
    order = np.argsort(languages, kind="stable")
    grouped = cluster_by_language(x[order], languages[order], 20).by_language
    alone = cluster_by_language(x[languages == "sw"], ["sw"] * int((languages == "sw").sum()), 20).by_language
    for name in ("ar", "de", "sw"):
        assert mixed[name].labels.tolist() == grouped[name].labels.tolist()
    assert alone["sw"].labels.tolist() == mixed["sw"].labels.tolist()


@given(st.lists(st.text(max_size=4).map(lambda text: text.rstrip("\0")), min_size=1, max_size=30))
def test_codes_of_texts_and_the_rows_of_each(texts):
    for values in (texts, np.array(texts), np.array(texts, dtype=object)):
        codes, names = text_codes(values)
        assert [names[code] for code in codes] == texts
        groups = group_rows(values, np.array([text != "" for text in texts]))
        assert list(groups) == sorted(set(texts) - {""})
        assert all(rows.tolist() == [i for i, text in enumerate(texts) if text == name]
                   for name, rows in groups.items())  # fmt: skip


def test_rows_without_a_language_belong_to_no_group_or_are_refused():
    assert {k: v.tolist() for k, v in group_rows(np.array(["b", "", "a", "b"]), np.array([1, 0, 1, 0], bool)).items()
            } == {"a": [2], "b": [0]}  # fmt: skip
    assert group_rows(["a"], np.array([False])) == {}
    with pytest.raises(DataError, match="no language in row 1"):
        group_rows(np.array(["b", "", "a"]))


def test_language_settings_and_errors():
    x = blobs(60)
    languages = ["de"] * 40 + ["sw"] * 20
    got = cluster_by_language(x, languages, {"de": 4, "sw": 50})
    assert got.by_language["de"].n_clusters == 4
    assert got.notes == ("sw: made 20 of 50 clusters (only 20 rows)",)
    by_default = cluster_by_language(x, languages, n_quality={"de": 4, "sw": 2}, n_diversity=3)
    assert by_default.by_language["de"].n_clusters == default_n_clusters(40, 4, 3)
    with pytest.raises(DataError, match="n_clusters has no entry for language 'sw'; it has de"):
        cluster_by_language(x, languages, {"de": 4})
    with pytest.raises(DataError, match="no language in row 3"):
        cluster_by_language(x, ["de", "de", "de", None, *["de"] * 56], 2)
    with pytest.raises(DataError, match="languages has 1 entries for 60 rows"):
        cluster_by_language(x, ["de"], 2)
    x[45] = np.nan
    with pytest.raises(DataError, match="the first is row 45"):
        cluster_by_language(x, languages, 2)
    assert cluster_by_language(x, languages, 2, bad_rows="mask").labels[45] == -1


def test_coverage():
    assert coverage([0, 0, 2], [0, 1, 2, 3, -1]) == coverage(np.array([2, 0, -1]), [3, 2, 1, 0])
    got = coverage([0, 0, 2], [0, 1, 2, 3])
    assert (got.n_covered, got.n_clusters, got.share) == (2, 4, 0.5)
    assert coverage([], []).share == 0.0
    with pytest.raises(DataError, match="clusters that labels_pool lacks: 7"):
        coverage([7], [0, 1])
