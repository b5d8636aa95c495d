"""What is fitted: blueprints of networks."""
