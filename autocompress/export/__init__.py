"""Files that runtimes load."""
