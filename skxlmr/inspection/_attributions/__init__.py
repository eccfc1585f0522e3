"""What each word of a text contributes to a prediction."""
