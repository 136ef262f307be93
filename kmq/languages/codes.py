"""The languages that people are told in, by their codes (RFC 5646: the primary subtag)."""

#: The first is the one without which nothing is said.
CODES = ("en", "de", "es", "fr")
