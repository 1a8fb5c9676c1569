"""What runs inside a worker process: a pure function of a trial's specification."""
