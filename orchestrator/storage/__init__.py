"""The trial database: schema, reading, writing. All SQL is in this package."""
