"""`python -m outwork`."""

from outwork.cli import main

if __name__ == "__main__":
    main()
