"""`ray job submit --working-dir . -- python jobs/study.py STUDY [--storage URI]`: the same as `syn-ray run`."""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
