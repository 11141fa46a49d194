"""Tasks, losses and the loop that trains them."""
