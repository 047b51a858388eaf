"""One file a store; found by scanning this folder (see cachetui.store)."""
