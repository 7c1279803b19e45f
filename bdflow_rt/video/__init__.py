"""Video files: frames in and out by PyAV and others, and whole files down and up."""
