"""``python -m skindualgen``: the same as the command ``skindualgen``."""

from skindualgen.cli import app

app(prog_name="skindualgen")
