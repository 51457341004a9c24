"""Scripts of the workshop: each says in its first lines what it writes or checks."""
