"""Training code: one folder per method, and what the methods share in ``common`` and ``networks``."""

if __name__ != "lnsdk.trainers":
    raise ImportError("import this package as lnsdk.trainers")
