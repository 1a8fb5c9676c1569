"""The .tflite file and the TensorFlow Lite Micro interpreter."""
