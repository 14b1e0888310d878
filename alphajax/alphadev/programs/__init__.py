"""What is done with a program: analyse, prove, print, read and draw it."""
