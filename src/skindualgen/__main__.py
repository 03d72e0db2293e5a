"""``python -m skindualgen``: the same as the command ``skindualgen``."""

from skindualgen.cli import app

if __name__ == "__main__":  # worker processes import this module under another name
    app(prog_name="skindualgen")
