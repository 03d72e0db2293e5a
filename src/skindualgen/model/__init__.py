"""Bases, the joint UNet, adapters, and their files for other programs."""
