"""Say which part of a prompt a sentence cites, and how far such citations have held. Knows no protocol."""
