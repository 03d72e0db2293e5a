"""``python tests/fuzzing``: the command of `fuzzing.command`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from fuzzing.command import app

    app(prog_name="python tests/fuzzing")
