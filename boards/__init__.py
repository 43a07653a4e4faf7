"""Board shells and builds to bitstreams."""
