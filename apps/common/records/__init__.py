"""What is kept of a run: its folder, MLflow, the facts about data and machine."""
