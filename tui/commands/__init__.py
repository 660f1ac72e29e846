"""What the commands of the command line print and do; the studio uses none of it."""
