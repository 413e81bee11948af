"""Proposal networks of LENS and of the methods that its Tables II and III compare it with."""
