"""The studio in the terminal and the command line: thin over `engine`."""
