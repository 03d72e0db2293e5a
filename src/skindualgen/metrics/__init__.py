"""Numbers of pictures, masks and answers: distances, overlaps, intervals, as pure functions on arrays."""
