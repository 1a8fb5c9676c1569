"""What a network costs: flash, arena, multiply-accumulates."""
