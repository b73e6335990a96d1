"""Networks that read rows of a table."""
