"""What the commands do: one file a verb, free functions that get the main screen."""
