"""Images to run: the embedded digits, or MNIST from its standard IDX files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ..hdl.brief import one_line
from .errors import DatasetError

DIGITS = Path(__file__).parent / "data" / "digits.safetensors"
SIZE = 32
#: Brightest value of the embedded digits.
DIGITS_MAX = 16
_CALIBRATION_IMAGES = 256
_FOLDERS = (".", "raw", "MNIST/raw")
_UBYTE = 0x08
#: Far more than MNIST's files have; compressed ones could hold anything.
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images for LeNet-5.

    Parameters
    ----------
    name
        "digits" or "mnist".
    images
        Test images, float32 [N, 1, 32, 32] in [0, 1].
    labels
        Their classes, int64 [N].
    calibration
        Images to find activation ranges with, float32 [M, 1, 32, 32].
    calibration_source
        "train", or "test" where the directory holds no training images.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray
    calibration_source: str = "train"


def load(directory: Path | str | None = None) -> Dataset:
    """MNIST from `directory`, or the embedded digits.

    The directory holds ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, and if possible
    ``train-images-idx3-ubyte`` for calibration; each may be gzipped (``.gz``), and may lie in
    ``raw`` or ``MNIST/raw``. Images of 28×28 are padded to 32×32.

    Raises
    ------
    DatasetError
        A file is missing or broken.
    """
    if directory is None:
        return _digits()
    folder = Path(directory)
    images, labels = load_idx(folder, "t10k")
    if _find(folder, "train-images-idx3-ubyte") is not None:
        calibration, source = read_images(folder, "train", limit=_CALIBRATION_IMAGES), "train"
    else:
        calibration, source = images[:_CALIBRATION_IMAGES], "test"
    return Dataset("mnist", images, labels, calibration, source)


def load_idx(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 1, 32, 32] and labels [N] of `part`, "train" or "t10k"."""
    images = read_images(folder, part)
    labels = _read_idx(_require(folder, f"{part}-labels-idx1-ubyte"), 1).astype(np.int64)
    if len(images) != len(labels):
        raise DatasetError(f"{folder}: {part} has {len(images)} images but {len(labels)} labels")
    if labels.max() > 9:
        raise DatasetError(f"{folder}: {part} has a label {labels.max()}; digits are 0 to 9")
    return images, labels


def read_images(folder: Path, part: str, *, limit: int | None = None) -> np.ndarray:
    """Images of `part` as float32 [N, 1, 32, 32] in [0, 1], the first `limit` of them."""
    path = _require(folder, f"{part}-images-idx3-ubyte")
    raw = _read_idx(path, 3)[:limit]
    if max(raw.shape[1:]) > SIZE:
        raise DatasetError(f"{path}: images of {raw.shape[1]}×{raw.shape[2]} exceed {SIZE}×{SIZE}")
    spare = [(SIZE - size) for size in raw.shape[1:]]
    widths = [(0, 0), *((pad // 2, pad - pad // 2) for pad in spare)]
    return (np.pad(raw, widths).astype(np.float32) / np.float32(255))[:, None]


def enlarge(digits: np.ndarray) -> np.ndarray:
    """8×8 digits as 32×32 images, bilinear with half-pixel centres.

    Parameters
    ----------
    digits
        Integers from 0 to 16, [N, 8, 8].

    Returns
    -------
    numpy.ndarray
        float32 [N, 1, 32, 32] in [0, 1], exact.
    """
    centres = (2 * np.arange(SIZE) + 1 - 4) / 8
    below = np.floor(centres).astype(int)
    part = centres - below
    matrix = np.zeros((SIZE, 8))
    np.add.at(matrix, (np.arange(SIZE), np.clip(below, 0, 7)), 1 - part)
    np.add.at(matrix, (np.arange(SIZE), np.clip(below + 1, 0, 7)), part)
    images = matrix @ (digits.astype(np.float64) / DIGITS_MAX) @ matrix.T
    return images.astype(np.float32)[:, None]


def _digits() -> Dataset:
    arrays = load_file(DIGITS)
    return Dataset(
        "digits",
        enlarge(arrays["test_images"]),
        arrays["test_labels"].astype(np.int64),
        enlarge(arrays["calibration_images"]),
    )


def _find(folder: Path, name: str) -> Path | None:
    stem, _, kind = name.rpartition("-idx")
    for place in _FOLDERS:
        for variant in (name, f"{stem}.idx{kind}"):
            for suffix in ("", ".gz"):
                path = folder / place / f"{variant}{suffix}"
                if path.is_file():
                    return path
    return None


def _require(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a directory: give the one that holds MNIST's files")
    path = _find(folder, name)
    if path is None:
        raise DatasetError(f"{folder} has no {name} (nor {name}.gz): put MNIST's IDX files there")
    return path


def _read_idx(path: Path, rank: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, in its shape."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=BytesIO(data)) as file:
                data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"cannot read {path}: {one_line(error)}") from error
    if len(data) > _MOST_BYTES:
        raise DatasetError(f"{path} has more than {_MOST_BYTES >> 20} MiB, more than any digits")
    header = 4 + 4 * rank
    if len(data) < header or data[:4] != bytes((0, 0, _UBYTE, rank)):
        raise DatasetError(f"{path} is not an IDX file of unsigned bytes in {rank} dimensions")
    shape = struct.unpack(f">{rank}I", data[4:header])
    if 0 in shape or len(data) != header + math.prod(shape):
        raise DatasetError(
            f"{path} is damaged: it announces {'×'.join(map(str, shape))} bytes "
            f"and holds {len(data) - header}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
