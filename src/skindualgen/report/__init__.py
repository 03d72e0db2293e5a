"""HTML reports from measured results."""
