"""A trained model in a folder with everything prediction needs, and in other formats."""
