"""Input arrays: from other libraries, from files, on a device."""
