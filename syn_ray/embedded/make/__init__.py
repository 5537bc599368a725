"""The scripts that made the embedded world's files, in the order in which they run: see README.md beside this file."""
