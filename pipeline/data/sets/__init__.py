"""What is known of each image set: the public ones, a user's own, and images without labels."""
