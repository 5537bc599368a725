"""The same as `syn-ray fit`, as a job.

    ray job submit --working-dir . -- python jobs/fit.py STUDY --storage URI

URI is what all nodes see: the default lies in the job's own directory and goes with it.
"""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
