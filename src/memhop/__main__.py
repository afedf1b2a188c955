"""``python -m memhop``: the program, where ``memhop`` is not on PATH."""

from memhop.cli import main

if __name__ == "__main__":
    main()
