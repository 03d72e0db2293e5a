"""The gate: scores of single pairs, and thresholds calibrated on held-out real pairs."""
