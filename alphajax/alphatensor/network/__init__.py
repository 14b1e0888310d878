"""Networks of AlphaTensor: torsos, heads, and the policy that searches use."""
