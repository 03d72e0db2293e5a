"""A data set folder checked against what it says of itself: hashes, records, marks, totals."""
