"""Settings for all tests."""

import os

from hypothesis import settings

# Several tests run at once, each with torch's threads; one that waits must not hold a core. It is
# read when torch is loaded, here or in a process that a test starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes says more of what else the machine does than of the code.
# Where CI is set hypothesis draws the same examples every time.
settings.register_profile("memhop", settings(), deadline=None)
settings.load_profile("memhop")
