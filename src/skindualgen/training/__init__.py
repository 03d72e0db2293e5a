"""Training an adapter: objective, steps, cache, checkpoints with exact resume."""
