"""What the package does for a user, one file a command; the command line and Python call the same functions."""
