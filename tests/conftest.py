"""Settings for all tests."""

import os
import signal

from hypothesis import settings

# Several tests run at once, each with torch's threads; one that waits must not hold a core. It is
# read when torch is loaded, here or in a process that a test starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell starts what runs in the background deaf to Ctrl-C, and the programs under test stay so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of what else the machine does than of the code.
# Where CI is set hypothesis draws the same examples every time.
settings.register_profile("memhop", settings(), deadline=None)
settings.load_profile("memhop")
