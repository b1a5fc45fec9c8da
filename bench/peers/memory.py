"""The most memory that this process had resident, in bytes."""

import re
import resource


def peak_bytes():
    """Linux counts in ru_maxrss what the parent had when it started the process: the own peak is in /proc."""
    try:
        with open("/proc/self/status", encoding="latin-1") as status:
            return int(re.search(r"^VmHWM:\s+(\d+) kB$", status.read(), re.MULTILINE)[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
