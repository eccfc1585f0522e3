"""What each module computes, as nodes of an ONNX graph. Only numpy and onnx: the weights come as functions that give arrays."""
