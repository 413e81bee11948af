"""What the methods share: data, simulation, schedules, evaluation, as plain functions."""
