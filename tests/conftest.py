"""Settings for all tests."""

from hypothesis import settings

# How long an example takes says more of what else the machine does than of the code.
# Where CI is set hypothesis draws the same examples every time.
settings.register_profile("memhop", settings(), deadline=None)
settings.load_profile("memhop")
