"""pytest-gameday: disaster-recovery drills as pytest suites.

The public face. What stands here, and in :mod:`chaos.testing`, is kept compatible; everything else is private.
"""

__version__ = "0.1.0"
