"""Networks that judge pictures and masks: feature extractors, a segmenter and a classifier, and their training."""
