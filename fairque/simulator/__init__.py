"""`fairque simulate`: a trace of tasks through several orders, and what comes of it. Imports only core."""
