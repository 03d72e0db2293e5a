"""The factory of pairs: requests are cut into chunks, engines generate and judge them, one process writes them down."""

DEFAULT_COUNT = 16
"""Pairs that are generated without a plan and a count; here, as help texts need it and must not load the rest."""
