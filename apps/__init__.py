"""What people run: one file per task, each read downwards once: options, data, model, report."""
