"""From a trained torch module to files that a runtime can open: ONNX, TorchScript, parity gate, bundle writer."""

if __name__ != "lnsdk.export":
    raise ImportError("import this package as lnsdk.export")
