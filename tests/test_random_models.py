"""Random torch models: quantized as torch does it, and alike on interpreter, model and RTL."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weft.hdl.config import load
from weft.host import frontend
from weft.host.ir import Graph

from . import models_alike
from .campaigns import models as campaign
from .random_models import sample
from .torch_models import compare_layers, export

torch.set_num_threads(1)

#: Seeds of `make verify ARGS=models` that ever failed, and why.
FAILED_ONCE: dict[int, str] = {}


@settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.randoms(use_true_random=False))
def test_layers_are_those_of_torch(rng: Random) -> None:
    subject = sample(rng, load("small"))
    made = frontend.simulate(
        export(subject.model, subject.inputs), subject.inputs, name="m",
        asymmetric=subject.asymmetric, multiplier_bits=32,
    )  # fmt: skip
    assert compare_layers(made, subject.inputs[:2]) > 0


@pytest.mark.parametrize("seed", range(18))
def test_alike(seed: int) -> None:
    """Every byte of every stored layer, every counter, every completion."""
    outcome, wrong = models_alike.run(seed)
    assert not wrong, wrong[0]
    assert outcome == "alike"


def test_seeds_that_failed_once() -> None:
    for seed, reason in FAILED_ONCE.items():
        assert not models_alike.run(seed)[1], reason


def test_differences_are_seen() -> None:
    """A weight, and a latency, that the RTL does not have."""
    graph = _graphs(1)[0]
    config = load("tiny")
    rtl, model = models_alike.devices("tiny", 50)
    x = torch.zeros(1, *graph.tensors[graph.input].shape).to(torch.int8).numpy()
    assert not models_alike.differences(graph, config, rtl, model, x)
    _, slow = models_alike.devices("tiny", 13)
    found = models_alike.differences(graph, config, rtl, slow, x)
    assert "counters of run 0" in found
    assert "completions of run 0" in found

    class Wrong:
        def run(self, job):
            result = rtl.run(job)
            const, given_, out, scratch = result.segments
            flipped = bytes([out[0] ^ 1]) + out[1:]
            object.__setattr__(result, "segments", (const, given_, flipped, scratch))
            return result

    found = models_alike.differences(graph, config, Wrong(), model, x)
    assert "OUTPUT on golden machine and RTL" in found
    assert f"{graph.output} on interpreter and RTL" in found


def _graphs(count: int) -> list[Graph]:
    out = []
    for seed in range(count):
        subject = sample(Random(seed), load("tiny"))
        made = frontend.quantize_exported(
            export(subject.model, subject.inputs), subject.inputs, name="m", multiplier_bits=18
        )
        out.append(made)
    return out


def test_models_are_of_every_sort() -> None:
    """Sorts of layers, by what torch has of them; quantizing them all would take long."""
    seen: Counter[str] = Counter()
    for seed in range(300):
        subject = sample(Random(seed), load("tiny"))
        for module in subject.model.modules():
            seen[type(module).__name__] += 1
            if isinstance(module, torch.nn.Conv2d):
                seen["depthwise"] += 1 < module.groups == module.in_channels
                seen["grouped"] += 1 < module.groups < module.in_channels
                seen["dilated"] += max(module.dilation) > 1
                seen["strided"] += max(module.stride) > 1
                seen["oblong"] += module.kernel_size[0] != module.kernel_size[1]
        seen[f"rank {subject.inputs.ndim}"] += 1
        seen["asymmetric"] += subject.asymmetric
    wanted = ["Conv2d", "Linear", "MaxPool2d", "AvgPool2d", "BatchNorm2d", "LayerNorm", "GELU"]
    wanted += ["depthwise", "grouped", "dilated", "strided", "oblong", "asymmetric"]
    wanted += ["rank 2", "rank 3", "rank 4", "ReLU", "ReLU6", "SiLU", "AdaptiveAvgPool2d"]
    assert not {name: seen[name] for name in wanted if seen[name] < 10}


def test_the_campaign_names_what_fails(monkeypatch, capsys) -> None:
    fates = {5: ("different", ["wrong"]), 6: ("refused: why", []), 7: ("alike", [])}
    monkeypatch.setattr(models_alike, "CONFIGS", ())
    monkeypatch.setattr(models_alike, "run", lambda seed: fates[seed])
    assert campaign.main(["--first", "5", "--count", "3", "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    assert "3 models from seed 5: 1 alike, 1 refused, 1 different" in said
    assert "refused: why" in said
    assert "test_random_models.py: 5:" in said
