"""Everything that can be said about a generated data set folder beside a real one: measured, judged, recorded."""
