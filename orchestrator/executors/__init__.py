"""Where trials run: on Ray, in local processes, or on a virtual clock."""

import os

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_TASK_MAX_RETRIES": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # a driver that was submitted as a job sends its modules as any other
    "RAY_worker_niceness": "0",  # Ray would let trials starve beside any other work (15)
}
for _name, _value in RAY_ENVIRONMENT.items():  # Ray reads them when it is imported
    os.environ.setdefault(_name, _value)
