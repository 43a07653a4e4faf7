"""Long checks behind `make verify`, one module each.

A campaign is a module of this package with a function ``main(args: Sequence[str]) -> int``: it
parses its own options (all have defaults), shows progress, prints what it found, and returns the
number of its failures. Its docstring's first line is its description. ``CAMPAIGNS`` of
``__main__.py`` names those that `make verify` runs, in order.
"""
