"""`ray job submit --working-dir . -- python jobs/generate.py STUDY [--storage URI]`: the same as `syn-ray generate`."""

import sys

from syn_ray.cli import main

if __name__ == "__main__":
    main(["generate", *sys.argv[1:]])
