"""`ray job submit --working-dir . -- python jobs/evaluate.py STUDY [--storage URI]`: the same as `syn-ray evaluate`."""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
