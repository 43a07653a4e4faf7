"""The tables of docs/benchmarks.md and README.md, from the measurements in benchmarks/."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import compile_cost
from benchmark_goals import GOALS, Cycles, Record, place
from weft.hdl.config import PRESETS
from weft.hdl.config import load as load_config
from weft.host.bench_report import short
from weft.host.networks import NETWORKS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"

#: The machines measured.
MACHINES = {
    "default": PRESETS["default"],
    "bus64": load_config(ROOT / "benchmarks" / "bus64.toml"),
    "small": PRESETS["small"],
    "large": PRESETS["large"],
}
#: The latency of the detailed results, and all latencies on the default machine.
LATENCY, LATENCIES = 50, (0, 50, 100)
#: Stands behind cycles that are the timing model's.
MODEL = "ᵐ"


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    """A table in Markdown, columns of numbers to the right."""
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in head]
    marks = ["---:" if all(_is_number(cell) for cell in column) else "---" for column in columns]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(marks)}|"]
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _is_number(cell: object) -> bool:
    numbers = rf"[\d.,]+( [kMG]|%)?( \([\d.]+\))?{MODEL}?|–|does not fit"
    return not isinstance(cell, str) or re.fullmatch(numbers, cell) is not None


def readme_table(results: dict[str, Record]) -> str:
    """README's table of networks."""
    head = ("network", "MACs", "bound", "cycles", "ratio", "array used", "SCALE-Sim, ideal memory")
    rows = [
        (
            name,
            short(r["macs"]),
            r["bound_cycles"],
            r["cycles"],
            f"{r['ratio']:.3f}",
            f"{r['utilization']:.1%}",
            r["peers"][0]["cycles"],
        )
        for name, r in results.items()
        if name in NETWORKS
    ]
    return table(head, rows)


def shown(entry: dict[str, Any], *, ratio: bool = False) -> str:
    """Cycles, marked where they are the model's; with their ratio to the bound if asked for."""
    beside = f" ({entry['cycles'] / entry['bound_cycles']:.3f})" if ratio else ""
    return f"{entry['cycles']:,}{beside}{MODEL if entry['backend'] == 'model' else ''}"


def network_table(results: dict[str, Record], cycles: Cycles) -> str:
    """Every network and layer on the default machine."""
    head = (
        *("network", "MACs", "bound", *(f"latency {latency}" for latency in LATENCIES)),
        *("ratio", "array used", "moved", "least", "seconds", "processor seconds", "host"),
    )
    rows = []
    for name, r in results.items():
        places = cycles[name]
        here = places[place("default", LATENCY)]
        took = [here.get(key) for key in ("seconds", "processor_seconds")]
        rows.append(
            (
                f"`{name}`",
                r["macs"],
                r["bound_cycles"],
                *(shown(places[place("default", latency)]) for latency in LATENCIES),
                f"{r['ratio']:.3f}",
                f"{r['utilization']:.1%}",
                short(r["moved_bytes"]),
                short(r["compulsory_bytes"]),
                *("–" if n is None else f"{n:.1f}" for n in took),
                f"{r['host_seconds']:.3f}" if r["host_seconds"] else "–",
            )
        )
    return table(head, rows)


def goal_table(results: dict[str, Record], cycles: Cycles) -> str:
    """What each network is held to."""
    head = ("network", "what", "at most", "cycles", "share")
    rows = []
    for goal in GOALS:
        if goal.network in results:
            found = goal.found(results, cycles)
            share = f"{found / goal.most:.1%}"
            rows.append((f"`{goal.network}`", goal.what, goal.most, found, share))
    return table(head, rows)


def peer_table(results: dict[str, Record]) -> str:
    """Every number of a peer, with what it refers to."""
    head = ("network", "peer", "its memory", "what it counts", "cycles", "ours", "peer / ours")
    rows = [
        (
            f"`{name}`",
            f"[{p['name']}]({p['source']})"
            if p["source"].startswith("https:")
            else f"{p['name']} ({p['source']})",
            p["memory"],
            p["scope"],
            p["cycles"],
            p["ours"],
            f"{p['cycles'] / p['ours']:.2f}",
        )
        for name, r in results.items()
        for p in r["peers"]
    ]
    return table(head, rows)


def machine_table(cycles: Cycles) -> str:
    """Cycles on other machines, and their ratio to the bound there."""
    head = (
        "network",
        *(f"{name}: {m.rows}×{m.cols}, {m.bus_bytes} B a cycle" for name, m in MACHINES.items()),
    )
    rows = []
    for name, found in cycles.items():
        entries = [found.get(place(machine, LATENCY)) for machine in MACHINES]
        cells = (shown(e, ratio=True) if e else "does not fit" for e in entries)
        rows.append((f"`{name}`", *cells))
    return table(head, rows)


def compile_table(costs: dict[str, dict[str, Any]]) -> str:
    """What compiling costs."""
    head = ("network", "seconds", "processor seconds", "MiB at most", "instructions", "constants")
    rows = [
        (
            f"`{name}`",
            f"{c['seconds']:.1f}",
            f"{c['processor_seconds']:.1f}",
            c["mebibytes"],
            c["instructions"],
            short(c["constant_bytes"]),
        )
        for name, c in costs.items()
    ]
    return table(head, rows)


def layer_tables(results: dict[str, Record]) -> str:
    """The layers of each network, folded away."""
    head = (
        *("layer", "MACs", "ideal", "bound", "cycles", "ratio", "array waits for", "moved"),
        *("least", "SCALE-Sim, ideal memory"),
    )
    parts = []
    for name, r in results.items():
        if name not in NETWORKS:
            continue
        rows = [
            (
                layer["name"] + (" (host)" if layer["on_host"] else ""),
                layer["macs"],
                layer["ideal_cycles"],
                layer["bound_cycles"],
                layer["cycles"],
                "–" if layer["ratio"] is None else f"{layer['ratio']:.3f}",
                ", ".join(f"{cause} {n:,}" for cause, n in layer["stalls"].items()) or "nothing",
                short(layer["moved_bytes"]),
                short(layer["compulsory_bytes"]),
                "–" if layer["scale_sim_cycles"] is None else layer["scale_sim_cycles"],
            )
            for layer in r["layers"]
        ]
        parts.append(f"<details><summary>{name}</summary>\n\n{table(head, rows)}\n</details>\n")
    return "\n".join(parts)


def blocks(results: dict[str, Record], cycles: Cycles) -> dict[tuple[Path, str], str]:
    """Every table by its page and the marker that it stands between."""
    return {
        (README, "networks"): readme_table(results),
        (PAGE, "networks"): network_table(results, cycles),
        (PAGE, "goals"): goal_table(results, cycles),
        (PAGE, "peers"): peer_table(results),
        (PAGE, "machines"): machine_table(cycles),
        (PAGE, "compile"): compile_table(compile_cost.load()),
        (PAGE, "layers"): layer_tables(results),
    }


def pattern(marker: str) -> re.Pattern[str]:
    """What stands between two markers."""
    return re.compile(rf"(?<=<!-- {marker} -->\n\n).*?(?=\n<!-- /{marker} -->)", re.DOTALL)


def write(results: dict[str, Record], cycles: Cycles) -> None:
    """Bring the pages up to date."""
    for (path, marker), block in blocks(results, cycles).items():
        text = path.read_text(encoding="utf-8")
        changed, count = pattern(marker).subn(lambda _, block=block: block, text)
        if count != 1:
            raise ValueError(f"{path} must have one block {marker!r}, not {count}")
        path.write_text(changed, encoding="utf-8")
