"""`ray job submit --working-dir . -- python jobs/fit.py STUDY [--storage URI]`: the same as `syn-ray fit`."""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
