"""Fuzzing of everything that reads people's files: inputs with a known truth, and inputs that are damaged."""
