"""The earlier name of `skindualgen.files`."""

from skindualgen.files import *  # noqa: F403
