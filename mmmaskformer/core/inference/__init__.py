"""Pure functions that turn the predictions for one image into results."""
