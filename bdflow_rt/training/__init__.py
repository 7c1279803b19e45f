"""Training: data, losses, schedule, checkpoints and the trainer behind `bdflow train`."""
