"""The tabs of the page, a module each: ``build(studio)`` lays one out inside the running ``gr.Blocks``."""
