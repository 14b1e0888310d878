"""Networks of AlphaDev: encoders, and the policy that searches use."""
