"""`make verify`: every campaign one after the other, or one of them with options of its own."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

#: Modules of this package in the order in which they run.
CAMPAIGNS = (
    "proofs",
    "programs",
    "broken",
    "withheld",
    "models",
    "fuzz",
    "layers",
    "networks",
    "scalesim",
    "boards",
    "flips",
    "lint",
    "netlist",
    "tosa",
    "coverage",
    "mutation",
    "branches",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns how many campaigns failed."""
    parser = argparse.ArgumentParser(
        prog="make verify",
        description=__doc__,
        epilog="\n".join(f"{name:<12} {description(name)}" for name in CAMPAIGNS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("campaign", nargs="?", choices=CAMPAIGNS, help="all unless named")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the campaign; try --help")
    chosen = parser.parse_args(arguments)
    names = CAMPAIGNS if chosen.campaign is None else (chosen.campaign,)
    failed = [name for name in names if not passes(module(name), chosen.options)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return len(failed)


def module(name: str) -> ModuleType:
    """The module of a campaign."""
    return import_module(f".{name}", __package__)


def description(name: str) -> str:
    """The first line of a campaign's docstring."""
    return (module(name).__doc__ or "").partition("\n")[0]


def passes(campaign: ModuleType, options: Sequence[str]) -> bool:
    """Run one campaign and say how it went; an exception is a failure."""
    name = campaign.__name__.rpartition(".")[2]
    begin = time.perf_counter()
    try:
        failures = campaign.main(options)
    except Exception:
        traceback.print_exc()
        failures = 1
    outcome = f"{failures} failures" if failures else "passed"
    print(f"{name}: {outcome} in {time.perf_counter() - begin:.0f} s", flush=True)
    return failures == 0


if __name__ == "__main__":
    sys.exit(main())
