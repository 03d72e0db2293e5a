"""Production of data set folders: resumable, in one process, in several, or on a cluster, with the same bytes."""
