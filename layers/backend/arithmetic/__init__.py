"""The layers' arithmetic: `plain` in `keras.ops`, and each backend's own where that is faster or nearer the truth."""
