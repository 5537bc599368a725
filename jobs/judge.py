"""The same as `syn-ray judge`, as a job.

    ray job submit --working-dir . -- python jobs/judge.py STUDY WEIGHTS... --storage URI [--resources FILE]

URI is what all nodes see: the default lies in the job's own directory and goes with it.
"""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["judge", *sys.argv[1:]])
