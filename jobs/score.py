"""`ray job submit --working-dir . -- python jobs/score.py STUDY [--storage URI]`: the same as `syn-ray score`."""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
