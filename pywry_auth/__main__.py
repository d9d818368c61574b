"""``python -m pywry_auth`` is the command ``pywry-auth``."""

import sys

from pywry_auth.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
