"""``python -m anynode``: the same as the console script."""

from anynode.cli.main import main

if __name__ == "__main__":
    main()
