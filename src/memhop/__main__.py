"""Run the command line with ``python -m memhop``."""

from memhop.cli import main

if __name__ == "__main__":
    main()
