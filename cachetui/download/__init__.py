"""Getting models: what will come is a plan, every byte is resumable, and nothing is placed before its hash agrees."""
