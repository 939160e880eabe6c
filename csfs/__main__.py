"""`python -m csfs`: the same as the console script."""

from csfs.cli.main import main

if __name__ == "__main__":
    main()
