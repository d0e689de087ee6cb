"""What PostgreSQL and MySQL have in common: servers, with transactions of our own, and statements with `%s`."""
