"""Networks that read the nodes of a graph."""
