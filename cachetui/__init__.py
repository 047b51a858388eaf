"""cachetui: see every AI model on this machine, what it really costs, and delete without fear."""

__version__ = "0.1.0"
