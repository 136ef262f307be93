"""What is it? Values only: no files, no sockets, no clock."""
