"""What `bdflow doctor` collects, with the standard library alone, so that it answers when everything else is broken.

Every probe is guarded: what fails reports its own error in its own place. Whatever could crash or hang the
interpreter (importing native packages, loading the driver) happens in a child process.
"""
