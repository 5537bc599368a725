"""`ray job submit --working-dir . -- python jobs/train.py STUDY [--storage URI]`: the same as `syn-ray train`."""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
