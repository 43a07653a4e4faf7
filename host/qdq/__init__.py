"""ONNX models quantized elsewhere, with QuantizeLinear and DequantizeLinear in them."""
