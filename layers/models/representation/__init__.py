"""Networks that learn what pictures and texts mean, without labels or from pairs."""
