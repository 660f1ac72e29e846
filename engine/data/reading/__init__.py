"""What formats share: decoding text, rows of tables, parts and classes told by names of files and folders."""
