"""Tables: reading their files, telling what their columns are, and making numbers of them."""
