"""FairQueue and its peers at the same work, on one machine, in one run."""
