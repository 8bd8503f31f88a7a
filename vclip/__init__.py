"""VideoCLIP as a research kit."""
