"""Arrays and files of other libraries."""
