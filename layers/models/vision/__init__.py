"""Networks that read a picture."""
