"""Small asynchronous pieces that know no word of the domain."""
