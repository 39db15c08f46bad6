"""A sample kind of destination: a folder on disk. The example of "To add a destination" in docs/development.md."""
