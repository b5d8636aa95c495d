"""Property tests: new examples at a desk, the same ones in CI, and no time limit for an example on a busy machine."""

import os
import signal

from hypothesis import settings

settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# A shell that starts us in the background has Ctrl-C ignored, also by all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)
