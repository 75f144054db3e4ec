"""What needs no data and is computed in seconds: counts, equations of units, signals, schedules, the search.

Each check is a function without arguments that runs the program's own parts and returns figures by name. The claims
they judge, and when those are confirmed, stand in `claims.toml` under the check's name.
"""
