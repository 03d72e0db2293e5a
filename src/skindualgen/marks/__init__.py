"""Marks inside files: a record as PNG text and XMP, signed content credentials (C2PA), a watermark."""
