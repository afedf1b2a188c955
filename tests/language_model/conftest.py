import sys

sys.path.insert(0, "/tmp/w")
import shim  # noqa: F401
