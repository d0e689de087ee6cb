"""Reading the settings: the forms in which they are written, their tables, and the values in them."""
