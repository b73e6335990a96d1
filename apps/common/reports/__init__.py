"""What is said of a trained model: numbers, tables, figures."""
