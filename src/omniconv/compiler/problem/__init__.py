"""One layer as the compiler sees it: sizes, walks along axes, candidates with their costs."""
