"""``python -m oocml.cli`` is ``oocml``."""

import sys

from oocml.cli import main

sys.exit(main())
