"""Pictures: drawn for every kind of scheme, from its entries, without the state of pyplot."""

import os
import sys

import numpy as np
import pytest

from alphajax.alphatensor.schemes.composition import naive, strassen, tensor_product
from alphajax.alphatensor.schemes.scheme import Scheme

pytest.importorskip("matplotlib")

from alphajax.alphatensor.schemes import pictures


def pixels(path):
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).round().astype(int)


def count(image, colour):
    rgb = [int(colour[x : x + 2], 16) for x in (1, 3, 5)]
    return int((image == rgb).all(axis=-1).sum())


def test_coloured_areas_are_in_proportion_to_the_entries(tmp_path):
    pictures.draw(strassen(), tmp_path / "strassen.png")
    image = pixels(tmp_path / "strassen.png")
    positive, negative = count(image, pictures.POSITIVE), count(image, pictures.NEGATIVE)
    entries = np.concatenate(strassen().factors)
    # Up to the legend and the lines between the cells.
    ratio = (entries > 0).sum() / (entries < 0).sum()
    assert abs(positive / negative / ratio - 1) < 0.1


@pytest.mark.parametrize(
    "scheme",
    [
        strassen("Z17"),
        strassen("Q"),
        strassen("Z2"),
        naive(1, 1, 1),
        naive(2, 12, 1),
        tensor_product(tensor_product(strassen(), strassen()), naive(2, 2, 2)),
        Scheme(*map(np.array, ([[1, 0]], [[1, 3]], [[1, -2]])), None, "Z"),
        Scheme(np.zeros((4, 0), int), np.zeros((4, 0), int), np.zeros((4, 0), int), None, "Z"),
    ],
    ids=repr,
)
def test_every_scheme_can_be_drawn(tmp_path, scheme):
    path = tmp_path / "scheme.png"
    pictures.draw(scheme, path, title="a title")
    image = pixels(path)
    assert image.shape[0] < 2500 and image.shape[1] < 2500 and image.min() < 100


def test_drawing_leaves_pyplot_alone_and_is_deterministic(tmp_path):
    before = sys.modules.get("matplotlib.pyplot")
    pictures.draw(strassen(), tmp_path / "a.png")
    pictures.draw(strassen(), tmp_path / "b.png")
    assert sys.modules.get("matplotlib.pyplot") is before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        pictures.draw(strassen(), tmp_path / "no" / "where.png")
