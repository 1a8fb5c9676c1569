"""The engine of differentiable pruning: gates, controller, landing, surgery."""
