"""Downstream networks that are trained on data set folders: segmentation and diagnosis."""
