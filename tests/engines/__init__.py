"""Each backend on its real server."""
