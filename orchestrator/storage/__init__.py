"""The trial database: schema, reading, writing. SQL stands here and nowhere else."""
