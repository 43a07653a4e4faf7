"""Boards: LeNet on every board in simulation, through its pins, bit by bit as the reference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from weft.boards.board import boards
from weft.boards.device import BoardDevice
from weft.hdl.config import load
from weft.host import compiler, interpreter, lenet, run
from weft.host.device import DeviceError


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many boards computed something else."""
    parser = argparse.ArgumentParser(prog="boards", description=__doc__)
    parser.add_argument("boards", nargs="*", default=list(boards()), help="(all)")
    failures = 0
    for name in parser.parse_args(args).boards:
        board = boards()[name]
        config = load(board.config)
        network = lenet.quantized(config, None, None)
        program = compiler.compile(network.graph, config)
        inputs = network.inputs[:1]
        device = BoardDevice(config, board=f"{name}-sim")
        try:
            found = run.run(
                program, device, inputs, reference=interpreter.run_all(network.graph, inputs)
            )
        except DeviceError as error:
            # A board whose memory is smaller than LeNet's weights has to say so.
            small = "not fit its memory" in str(error) and board.memory_bytes < len(program.const)
            print(f"{name} with {config.name}: {error}", flush=True)
            failures += not small
        else:
            print(
                f"{name} with {config.name}: {found.mismatches} mismatching bytes, "
                f"{found.cycles_per_image:,.0f} cycles",
                flush=True,
            )
            failures += found.mismatches != 0
        finally:
            device.close()
    return failures
