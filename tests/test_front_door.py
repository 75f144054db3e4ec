"""What `import residual` offers is listed, found, and loaded only when it is used."""

import subprocess
import sys

import pytest

import residual
from tests.conftest import subprocess_environment


def test_every_name_is_listed():
    assert set(residual.__all__) <= set(dir(residual))
    assert "Any" not in dir(residual)


@pytest.mark.parametrize("name", residual.__all__)
def test_every_name_is_there(name):
    assert getattr(residual, name) is not None


def test_listing_the_names_loads_nothing():
    program = "import residual, sys; dir(residual); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env=subprocess_environment(), timeout=60, check=False)
    assert done.returncode == 0
