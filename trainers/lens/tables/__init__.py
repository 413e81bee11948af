"""The tables of the LENS paper on simulated patients: what each row trains, how it is measured, what the tables say."""
