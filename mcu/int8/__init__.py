"""int8 models: quantisation and integer arithmetic."""
