"""The pictures: what is in them, that it is what the data say, and that they can be read with 20 languages."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import SPONTANEOUS_LANGUAGES
from hf_mlalign.spontaneous.lens.distances import geometry
from hf_mlalign.spontaneous.lens.plots import _style, curves, heatmap, scatter
from hf_mlalign.spontaneous.lens.result import LensResult

NAMES = ("en", *(code for code in SPONTANEOUS_LANGUAGES if code != "en"))


def lens(seed: int, layers: int = 5, names=NAMES) -> LensResult:
    rng = np.random.default_rng(seed)
    languages = names * 2
    n, k = len(languages), len(names)
    return LensResult(
        probabilities=rng.uniform(size=(n, layers, k)).astype(np.float32),
        entropy=rng.uniform(0, 5, size=(n, layers)).astype(np.float32),
        top_tokens=np.full((n, layers), "a"),
        overlap=np.zeros((n, k), dtype=bool),
        names=names,
        languages=languages,
    )


def shape(seed: int, axes=None, names=NAMES, layers: int = 4):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(layers, 3 * len(names), 6)).astype(np.float32)
    return geometry(states, names * 3, [i // len(names) for i in range(3 * len(names))], axes=axes)


@pytest.fixture(autouse=True)
def _no_global_state():
    """matplotlib's backend is not chosen for the user, and pyplot holds no figure."""
    import sys

    yield
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


@pytest.mark.parametrize("value", ["own", "english", "entropy"])
def test_heatmap_shows_the_means(value, tmp_path):
    before, after = lens(0), lens(1)
    picture = heatmap(before, after, value)
    images = [ax.images[0] for ax in picture.figure.axes if ax.images]
    assert [ax.get_title() for ax in picture.figure.axes if ax.images] == ["before", "after", "difference"]
    own = {"own": before.in_own_language, "english": before.in_english, "entropy": before.entropy}[value]
    shown = np.asarray(images[0].get_array())
    np.testing.assert_allclose(shown, (own[:20] + own[20:]) / 2, rtol=1e-5)
    np.testing.assert_allclose(images[2].get_array(), images[1].get_array() - shown, rtol=1e-4, atol=1e-6)
    assert images[0].get_clim() == images[1].get_clim()
    assert images[0].get_clim()[0] == 0
    low, high = images[2].get_clim()
    assert low == -high
    path = picture.save(tmp_path / "new" / "heat")
    assert path.read_bytes().startswith(b"\x89PNG")
    data = pd.read_csv(tmp_path / "new" / "heat.csv")
    assert list(data.columns) == ["language", "layer", *(f"{value}_{w}" for w in ("before", "after", "difference"))]
    np.testing.assert_allclose(data[f"{value}_before"], shown.ravel(), rtol=1e-5)


def test_one_panel_without_after_and_grey_without_values():
    result = lens(0, names=("en", "de"))
    result.probabilities[:, :, 0] = np.nan
    picture = heatmap(result, value="english")
    images = [ax.images[0] for ax in picture.figure.axes if ax.images]
    assert len(images) == 1
    assert np.ma.getmaskarray(images[0].get_array()).all()
    assert images[0].to_rgba(np.ma.masked_all((1, 1)))[0, 0, :3] == pytest.approx([0xD9 / 255] * 3)


def test_labels_of_twenty_languages_do_not_overlap(tmp_path):
    picture = heatmap(lens(0, layers=33), lens(1, layers=33))
    picture.save(tmp_path / "heat")
    ax = picture.figure.axes[0]
    labels = [label for label in ax.get_yticklabels() if label.get_text()]
    assert [label.get_text() for label in labels] == list(NAMES)
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_geometry_heatmap():
    before, after = shape(0), shape(1)
    picture = heatmap(before, after, "distance")
    image = next(ax.images[0] for ax in picture.figure.axes if ax.images)
    np.testing.assert_allclose(image.get_array(), before.distance.T, rtol=1e-5)


def test_curves_have_a_panel_a_language():
    before, after = lens(0), lens(1)
    picture = curves(before, after)
    panels = [ax for ax in picture.figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in panels] == list(NAMES)
    lines = {line.get_label(): line.get_ydata() for line in panels[3].lines}
    assert set(lines) == {"own language, before", "own language, after", "English, before", "English, after"}
    np.testing.assert_allclose(lines["English, after"], after.in_english[[3, 23]].mean(axis=0), rtol=1e-5)
    single = curves(lens(0, names=("en", "de")))
    assert {line.get_label() for line in single.figure.axes[1].lines} == {"own language", "English"}


def test_scatter_shows_the_points(tmp_path):
    before = shape(0)
    after = shape(1, axes=before)
    picture = scatter(before, after, layers=[1, 3])
    titles = [ax.get_title() for ax in picture.figure.axes]
    assert titles == ["before, layer 1", "before, layer 3", "after, layer 1", "after, layer 3"]
    grid = picture.figure.axes
    assert grid[0].get_xlim() == grid[2].get_xlim()
    own = np.flatnonzero([code == NAMES[1] for code in before.languages])
    texts, mean = grid[0].collections[:2]
    np.testing.assert_allclose(texts.get_offsets(), before.points[1, own], rtol=1e-5)
    np.testing.assert_allclose(mean.get_offsets()[0], before.points[1, own].mean(axis=0), rtol=1e-5)
    assert f"PC 1 ({before.explained[1, 0]:.0%})" == grid[0].get_xlabel()
    legend = picture.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == list(NAMES)
    assert len(picture.data) == 2 * 2 * 60
    assert picture.save(tmp_path / "s").stat().st_size > 10_000


def test_every_language_has_a_look_of_its_own():
    looks = [tuple(_style(i).values()) for i in range(50)]
    assert len(set(looks)) == 50
    assert looks[0] == ("black", "*")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heatmap(lens(0), value="rank"), "value: 'rank' is not known. Use own, english, entropy"),
        (lambda: heatmap(shape(0), value="own"), "Use distance"),
        (lambda: heatmap(lens(0), lens(0, layers=6)), "not made from the same prompts"),
        (lambda: curves(lens(0), lens(0, names=("en", "de"))), "not made from the same prompts"),
        (lambda: scatter(shape(0), layers=[9]), "choose from 0 to 3"),
        (lambda: scatter(shape(0), layers=[]), "choose from 0 to 3"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("names", [("en",), ("en", "de")])
def test_few_languages_and_layers(names, tmp_path):
    result = shape(0, names=names, layers=2)
    scatter(result).save(tmp_path / "a")
    heatmap(result, result, "distance_in_spreads").save(tmp_path / "b")
    curves(lens(0, layers=2, names=names)).save(tmp_path / "c")
