"""What we learn from: tasks, encoders and ready data sets."""
