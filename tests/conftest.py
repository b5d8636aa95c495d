"""Property tests: new examples at a desk, the same ones in CI, and no time limit for an example on a busy machine."""

import os

from hypothesis import settings

settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
