"""The worked examples of the documents: each command is run, and its output is what the document shows."""
