"""Long work: child processes that speak JSON lines, and the queue they wait in. No user interface."""
