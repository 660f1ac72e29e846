"""`python -m torch_tui`."""

from torch_tui import main

if __name__ == "__main__":
    main()
