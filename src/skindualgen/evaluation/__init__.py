"""Everything that can be said about a generated data set folder next to a real one: measured, judged, recorded."""
