"""The workers of a Dask cluster as a backend, and Dask arrays as sources of log weights."""
