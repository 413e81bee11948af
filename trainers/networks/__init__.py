"""Networks of the published methods, as plain torch modules without training code."""
