"""The Textual user interface. `app.run` opens it."""
