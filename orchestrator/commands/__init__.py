"""The commands of ``mcusweep``, by what they are about."""
