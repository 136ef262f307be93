"""kmq and Debian's Postfix side by side on this machine: `python -m bench`, as root."""
