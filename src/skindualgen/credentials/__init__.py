"""Provenance inside files: records, XMP, signed content credentials, watermark; and its verification."""
