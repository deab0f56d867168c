"""`python -m attnstore`: the command line."""

from attnstore.cli.main import main

if __name__ == "__main__":
    main(prog_name="attnstore")
