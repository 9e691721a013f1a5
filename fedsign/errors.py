"""What a user can get wrong, each as one line."""

import sys


class FedsignError(Exception):
    """An error whose message is one line written for the user; shown without a traceback."""


class InputError(FedsignError):
    """What was given cannot be run; exit status 2."""


class ConfigError(InputError):
    """A config value that cannot be run: the message names the key, the value and what is allowed."""


class DataError(InputError):
    """A dataset that is missing, truncated or of the wrong form: the message names the file."""


class PayloadError(FedsignError):
    """Bytes that no client could have sent, or values that no codec may send.

    `row` is the position of the offending client among those coded together, so that the caller can name it.
    """

    def __init__(self, message: str, row: int | None = None):
        super().__init__(message)
        self.row = row


class NotFiniteError(PayloadError):
    """Values to send, or sent, that are NaN or infinite: a client whose training diverged."""


def warn(message: str) -> None:
    """Tell the user in one line what went wrong and was got over."""
    print(f"fedsign: warning: {message}", file=sys.stderr, flush=True)
