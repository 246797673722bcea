"""Exported models: a folder that tells anyone with public keys what it is and where it came from."""
