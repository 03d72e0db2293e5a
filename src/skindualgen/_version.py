"""Version of the package: read by the build and by every file that names what it was made with."""

__version__ = "0.1.0"
