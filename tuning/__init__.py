"""Searches over the options of any app, by KerasTuner's oracles; each trial is a nested MLflow run."""
