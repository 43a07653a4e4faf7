"""Test benches: simulator builds, memory models, cocotb tops and the fast path."""
