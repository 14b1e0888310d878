"""A fixture for tests of the package's own argument checks."""

import jaxtyping
import pytest


@pytest.fixture(name="unchecked_types")
def _unchecked_types():
    """Turns the run-time checks of annotations off, as they are outside of tests.

    Arguments of a wrong type then reach the checks of the functions themselves.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
