"""Where does it go? Recipients to next hops."""
