"""The engine's pure core: schedules, executions, time and policies as folds and deciders."""
