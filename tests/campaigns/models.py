"""Random torch models: quantized, compiled and alike on golden machine, timing model and RTL.

A seed stands for a model, a configuration and a memory latency; ``tests/models_alike.py`` says
what is compared. Models that the front end or the compiler refuses, with a sentence, are counted.
"""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from rich.progress import track

from .. import models_alike, results

#: Seeds of a job for one process.
BATCH = 10
#: Share of the models that may be refused.
MOST_REFUSED = 0.05


def check(seeds: range) -> tuple[list[str], list[tuple[int, str]]]:
    """Outcomes, and (seed, text) of each model that went wrong."""
    outcomes, wrong = [], []
    for seed in seeds:
        try:
            outcome, texts = models_alike.run(seed)
        except Exception:
            outcome, texts = "different", [f"seed {seed}: {traceback.format_exc(limit=-6)}"]
        outcomes.append(outcome)
        wrong += [(seed, text) for text in texts]
    return outcomes, wrong


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many seeds failed."""
    parser = argparse.ArgumentParser(prog="models", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--count", type=int, default=2000, help="models (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    for config in models_alike.CONFIGS:
        models_alike.build(config)
    clock = results.Clock()
    end = options.first + options.count
    todo = [range(at, min(at + BATCH, end)) for at in range(options.first, end, BATCH)]
    outcomes: list[str] = []
    failed: list[int] = []
    with ProcessPoolExecutor(options.jobs, initializer=models_alike.quiet) as pool:
        for seen, wrong in track(pool.map(check, todo), "Random models", total=len(todo)):
            outcomes += seen
            for seed, text in wrong:
                failed.append(seed)
                print(text, flush=True)
    refused = [outcome for outcome in outcomes if outcome.startswith("refused")]
    for outcome in sorted({*refused}):
        print(outcome)
    print(
        f"{options.count} models from seed {options.first}: {outcomes.count('alike')} alike, "
        f"{len(refused)} refused, {len(failed)} different, {clock.seconds} s, "
        f"{clock.processor_seconds} s of processors"
    )
    for seed in failed:
        print(f'failed; add to FAILED_ONCE of tests/test_random_models.py: {seed}: "why",')
    if options.write:
        results.write_cases("models", options.count, len(failed), clock, options.jobs)
    return len(failed) + (len(refused) > max(2, MOST_REFUSED * options.count))
