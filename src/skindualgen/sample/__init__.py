"""The pipeline: denoising, guidance, kept regions, and reading masks of photographs."""

ENSEMBLE_SIZE = 4
"""Draws that are averaged where a mask is read, unless another number is given; here, as help texts and the page need
it and must not load the rest."""
