"""Asserts of the suite that is shipped with gigq are shown as those of the tests here."""

import pytest

pytest.register_assert_rewrite("gigq.testing")
