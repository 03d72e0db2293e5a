"""Data set folders: other people's archives, checks, splits, prompts, the manifest, and torch's view of them."""
