"""The same as `syn-ray report`, as a job.

    ray job submit --working-dir . -- python jobs/report.py STUDY --storage URI

URI is what all nodes see: the default lies in the job's own directory and goes with it.
"""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
