"""The machine: configuration, instruction set, register map and Amaranth components."""
