"""The factory of pairs: requests are cut into chunks, engines draw and judge them, one process writes them down."""
