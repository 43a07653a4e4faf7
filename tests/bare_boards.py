"""Boards without the machine, which takes long to generate, to compile and to synthesize."""

from __future__ import annotations

import dataclasses

from amaranth.hdl import Module
from amaranth.lib import wiring
from weft.boards.board import Board, find
from weft.hdl.top import Weft


class Nothing(wiring.Component):
    """The machine's pins."""

    def __init__(self, config):
        super().__init__(Weft(config).signature)

    def elaborate(self, platform) -> Module:
        return Module()


def bare(name: str) -> Board:
    """A board without a machine."""
    board = find(name)

    class Top(board.top):
        def __init__(self, config, **options):
            super().__init__(config, machine=Nothing(config), **options)

    return dataclasses.replace(board, top=Top)
