"""``python -m fedsign`` is the command ``fedsign``."""

from fedsign.cli import main

if __name__ == "__main__":
    main()
