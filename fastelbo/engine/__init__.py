"""An estimate, from the request to the result."""
