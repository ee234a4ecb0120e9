"""Whether this machine can speak."""

import pytest

from rnnlab.data.espeak import Speaker


def skip_without_espeak():
    """Skip a test where espeak-ng is not installed, and only there: whatever else is wrong with it is an error."""
    try:
        Speaker().close()
    except ValueError as error:
        if "apt-get install espeak-ng" not in str(error):
            raise
        pytest.skip(str(error))
