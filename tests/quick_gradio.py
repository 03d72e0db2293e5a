"""Gradio, imported as the studio imports it: in half the time, without the stubs that it writes for editors."""

from skindualgen.studio.quick_import import import_gradio

import_gradio()
