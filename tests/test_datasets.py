"""The embedded digits, and MNIST's IDX files: good ones, and every way they can be broken."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from weft.host import datasets
from weft.host.errors import DatasetError


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("t10k", 20), ("train", 300)):
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_embedded_digits() -> None:
    data = datasets.load()
    assert data.images.shape == (360, 1, 32, 32)
    assert data.calibration.shape == (256, 1, 32, 32)
    assert data.images.dtype == data.calibration.dtype == np.float32
    assert (data.images.min(), data.images.max()) == (0, 1)
    assert np.bincount(data.labels).min() >= 34
    assert (data.name, data.calibration_source) == ("digits", "train")
    seen = {image.tobytes() for image in data.calibration}
    assert not any(image.tobytes() in seen for image in data.images)


def test_enlarge_is_torchs_bilinear() -> None:
    digits = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    want = torch.nn.functional.interpolate(
        torch.from_numpy(digits / 16.0)[:, None], size=32, mode="bilinear", align_corners=False
    )
    assert np.array_equal(datasets.enlarge(digits), want.float().numpy())


def test_mnist_is_padded_and_scaled(mnist: Path) -> None:
    data = datasets.load(mnist)
    assert data.images.shape == (20, 1, 32, 32)
    assert data.calibration.shape == (256, 1, 32, 32)
    raw = np.frombuffer((mnist / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    inner = data.images[:, 0, 2:30, 2:30]
    assert np.array_equal(np.rint(inner * 255), raw.reshape(20, 28, 28))
    assert data.images.sum() == pytest.approx(inner.sum())
    labels = (mnist / "t10k-labels-idx1-ubyte").read_bytes()[8:]
    assert data.labels.tolist() == list(labels)


def test_mnist_gzipped_in_subfolder_with_dots(mnist: Path) -> None:
    want = datasets.load(mnist)
    folder = mnist / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in list(mnist.glob("*ubyte")):
        name = path.name.replace("-idx", ".idx") + ".gz"
        (folder / name).write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    got = datasets.load(mnist)
    assert np.array_equal(got.images, want.images)
    assert np.array_equal(got.calibration, want.calibration)


def test_mnist_without_training_images_calibrates_on_test(mnist: Path) -> None:
    (mnist / "train-images-idx3-ubyte").unlink()
    data = datasets.load(mnist)
    assert data.calibration_source == "test"
    assert np.array_equal(data.calibration, data.images)


def broken(change: str, folder: Path) -> None:
    images, labels = folder / "t10k-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte"
    data = images.read_bytes()
    match change:
        case "missing":
            labels.unlink()
        case "short":
            images.write_bytes(data[:-1])
        case "long":
            images.write_bytes(data + b"\0")
        case "empty":
            images.write_bytes(b"")
        case "magic":
            images.write_bytes(b"\x89PNG" + data[4:])
        case "swapped":
            images.write_bytes(labels.read_bytes())
        case "gzip":
            images.write_bytes(gzip.compress(data)[:100])
        case "header":
            images.write_bytes(b"\x1f\x8b\xff\xff not gzip")
        case "count":
            labels.write_bytes(idx(np.zeros(19, np.uint8)))
        case "label":
            labels.write_bytes(idx(np.full(20, 10, np.uint8)))
        case "large":
            images.write_bytes(idx(np.zeros((20, 40, 28), np.uint8)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "has no t10k-labels-idx1-ubyte"),
        ("short", "is damaged: it announces 20×28×28 bytes and holds 15679"),
        ("long", "is damaged"),
        ("empty", "is not an IDX file"),
        ("magic", "is not an IDX file"),
        ("swapped", "is not an IDX file of unsigned bytes in 3 dimensions"),
        ("gzip", "cannot read"),
        ("header", "cannot read"),
        ("count", "t10k has 20 images but 19 labels"),
        ("label", "t10k has a label 10"),
        ("large", "images of 40×28 exceed 32×32"),
    ],
)
def test_broken_files_are_named(mnist: Path, change: str, message: str) -> None:
    broken(change, mnist)
    with pytest.raises(DatasetError, match=message):
        datasets.load(mnist)


def test_missing_directory() -> None:
    with pytest.raises(DatasetError, match="nowhere is not a directory"):
        datasets.load("nowhere")
