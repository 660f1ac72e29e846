"""Real steps that no run keeps: does it train, at which learning rate, with how large a batch."""
