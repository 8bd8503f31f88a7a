"""Search a folder of videos by text, down to the second."""
