"""Child processes: `python -m cachetui.workers.X` does one job and speaks the protocol of jobs/protocol.py."""
