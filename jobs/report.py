"""`ray job submit --working-dir . -- python jobs/report.py STUDY [--storage URI]`: the same as `syn-ray report`."""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
