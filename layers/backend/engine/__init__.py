"""What surrounds the arithmetic: gradients, batches, steps, compilation, devices."""
