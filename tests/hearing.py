"""Programs started as a terminal starts them: a shell starts what runs in the background deaf to Ctrl-C."""

import sys

_HEARING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
HEARING = (sys.executable, "-c", _HEARING)
"""Put before a command."""
