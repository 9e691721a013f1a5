"""The one line that a reader's refusal is."""

import pytest

from fedsign.errors import DataError


def refusal(call, kind=DataError):
    """The message of the error that `call` must raise; one line."""
    with pytest.raises(kind) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)
