"""What may be asked? Verbs, control server and client."""
