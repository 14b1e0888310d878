"""Programs: analyse, print, parse, prove and draw them; reference routines to compare with."""
