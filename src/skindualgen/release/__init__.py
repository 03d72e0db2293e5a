"""Data sets and adapters made ready for publication: cards, checks, upload."""
