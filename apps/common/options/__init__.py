"""What a user may ask for: options declared once, the command line, the backend that is chosen."""
