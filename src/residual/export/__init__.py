"""Networks on their way to other programs and from them: weights by foreign names, ONNX, the model card."""
