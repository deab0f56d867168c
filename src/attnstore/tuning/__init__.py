"""Fine-tuning: tasks, their metrics, trainings and what a model scores."""
