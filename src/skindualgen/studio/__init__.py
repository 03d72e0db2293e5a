"""The studio: a web page on this computer that does what the commands do."""
