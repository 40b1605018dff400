"""`python -m fairque` is the command `fairque`."""

from fairque.cli import main

if __name__ == "__main__":
    main()
