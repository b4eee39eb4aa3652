"""What the dataset scripts share."""
