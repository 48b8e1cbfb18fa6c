"""``python -m accelsim``: the same as the command ``accelsim``."""

import sys

from accelsim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
