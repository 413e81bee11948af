"""The version of lnsdk: the one place it is written; the build and the compiled kernels read it from here."""

__version__ = "0.1.0"
