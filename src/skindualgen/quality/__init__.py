"""Judges of a data set folder: features, fidelity, masks, novelty. They never import the generator."""
