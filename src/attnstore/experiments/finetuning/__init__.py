"""Fine-tuning: tasks, metrics, resumable trainings, evaluations."""
