"""How does it come in? The SMTP session and its carrier."""
