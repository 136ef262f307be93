"""What does one see? Tables; reads only."""
