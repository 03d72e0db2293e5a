"""Image-mask pairs to be generated: what is asked for, and how many of each."""
