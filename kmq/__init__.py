"""kmq: a mail transfer agent whose queue is a folder that a person can read."""

__version__ = "0.1.0"
