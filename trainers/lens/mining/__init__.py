"""Missing-annotation mining: lesions that nobody marked, found from what is known of the data (LENS V)."""
