"""What a model costs on a microcontroller: graph, resource model, devices, int8, .tflite, measurement, firmware."""
