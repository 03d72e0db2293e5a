"""The show behind `make demo`: every room once, on phantoms and the bundled model."""
