"""Commands that run apart from whoever started them, and the queue that runs them one after the other on a device."""
