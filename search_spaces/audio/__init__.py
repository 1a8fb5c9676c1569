"""Sound: reading, making and mixing recordings, and the features that networks see."""
