"""The tests, by layer; what several of them need lies beside this file."""
