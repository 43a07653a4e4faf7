"""Train LeNet-5 on handwritten digits and write its weights.

By default it trains on scikit-learn's digits, and writes the weights and images that the package
embeds. With ``--data DIR`` it trains on MNIST from its IDX files:

    python examples/train_lenet.py --data ~/mnist --out lenet-mnist.safetensors
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional
from weft.host import datasets
from weft.host.models import LENET_WEIGHTS, LeNet5

TEST_IMAGES = 360
CALIBRATION_IMAGES = 256


def main() -> None:
    """Train, report the accuracy on held-out images, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="directory of MNIST's IDX files")
    parser.add_argument("--out", type=Path, help="weights to write (safetensors)")
    parser.add_argument("--epochs", type=int, help="passes over the training images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.data is not None and args.out is None:
        parser.error("--data needs --out, so that the embedded weights stay those of the digits")

    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    if args.data is None:
        train, test = digits(args.seed)
        epochs = args.epochs or 45
        if args.out is None:
            embed(train, test)
        train, test = ((datasets.enlarge(images), labels) for images, labels in (train, test))
    else:
        train, test = (datasets.load_idx(args.data, part) for part in ("train", "t10k"))
        epochs = args.epochs or 6

    start = time.perf_counter()
    model = fit(*train, epochs=epochs)
    score = accuracy(model, *test)
    print(f"{100 * score:.2f} % of {len(test[1])} test images, {time.perf_counter() - start:.0f} s")
    out = args.out or LENET_WEIGHTS
    save_file(model.state_dict(), out)
    print(f"wrote {out}")


def digits(seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and test digits, uint8 [N, 8, 8] from 0 to 16, with their labels."""
    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    a, b, c, d = train_test_split(
        images, labels, test_size=TEST_IMAGES, stratify=labels, random_state=seed
    )
    return (a, c), (b, d)


def embed(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> None:
    """Write the test images, and some training images for calibration, into the package."""
    arrays = {
        "test_images": test[0],
        "test_labels": test[1],
        "calibration_images": train[0][:CALIBRATION_IMAGES],
        "calibration_labels": train[1][:CALIBRATION_IMAGES],
    }
    save_arrays({k: np.ascontiguousarray(v) for k, v in arrays.items()}, datasets.DIGITS)
    print(f"wrote {datasets.DIGITS}")


def augment(images: torch.Tensor) -> torch.Tensor:
    """Each image rotated up to 12°, scaled and sheared up to 12 %, moved up to 2 pixels."""
    count = len(images)
    spread = lambda width: (torch.rand(count) * 2 - 1) * width  # noqa: E731
    angle, shear = spread(math.radians(12)), spread(0.12)
    scale = 1 + spread(0.12)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [
        torch.stack([cos, -sin + shear, spread(2 / 16)], dim=1),
        torch.stack([sin, cos, spread(2 / 16)], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def fit(images: np.ndarray, labels: np.ndarray, *, epochs: int, batch: int = 64) -> LeNet5:
    """A LeNet-5 trained on `images` [N, 1, 32, 32]."""
    model = LeNet5().train()
    x, y = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = epochs * math.ceil(len(x) / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for index in torch.randperm(len(x)).split(batch):
            loss = functional.cross_entropy(
                model(augment(x[index])), y[index], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        print(f"epoch {epoch + 1:2}/{epochs}: loss {total / len(x):.4f}", end="\r", flush=True)
    print()
    return model.eval()


@torch.no_grad()
def accuracy(model: LeNet5, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of `images` whose highest score is their label's."""
    scores = torch.cat([model(part) for part in torch.from_numpy(images).split(512)])
    return float((scores.argmax(dim=1).numpy() == labels).mean())


if __name__ == "__main__":
    main()
