"""Client commands, one module per noun."""
