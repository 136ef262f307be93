"""What is done to it? One class per file."""
