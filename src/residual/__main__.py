"""`python -m residual`."""

from residual.cli.main import main

if __name__ == "__main__":
    main()
