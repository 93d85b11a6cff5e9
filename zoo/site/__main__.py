"""``python -m zoo.site CONFIG SITE [OPTIONS]``: see :mod:`zoo.site.run`."""

from __future__ import annotations

import os
import sys

from zoo.site.run import main

code = main(sys.argv[1], sys.argv[2], sys.argv[3:])
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # without taking apart, object by object, what the build has left
