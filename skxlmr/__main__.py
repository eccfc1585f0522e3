"""``python -m skxlmr``: features and predictions of the texts in a file."""

import sys

from skxlmr.cli import main

if __name__ == "__main__":
    sys.exit(main())
