"""Gradio, imported as the studio imports it: in half the time, without the stubs that it writes for editors.

What does that is loaded by itself, so that this may come before coverage is measured, which begins with the package.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "src" / "skindualgen" / "studio" / "quick_import.py"

spec = spec_from_file_location("quick_import", FILE)
assert spec is not None and spec.loader is not None
loaded = module_from_spec(spec)
spec.loader.exec_module(loaded)
loaded.import_gradio()
