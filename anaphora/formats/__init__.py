"""How dates look on pages, whatever the language: unmistakable, and with their time zone."""
