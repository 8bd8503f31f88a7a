"""From files to training pairs: video, captions, features on disk, clips."""
