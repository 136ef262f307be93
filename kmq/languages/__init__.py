"""In whose words? What people are told, a table for each language; which one is chosen is none of it."""
