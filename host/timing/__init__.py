"""Cycle contracts of the components as plain functions."""
