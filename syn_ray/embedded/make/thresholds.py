"""Prints the threshold table of `captions.py`, from the generator split of Fashion-MNIST.

Run: `python -m syn_ray.embedded.make.thresholds`.
"""

import argparse
from pathlib import Path

import numpy as np

from syn_ray.embedded import CLASS_NAMES
from syn_ray.embedded.captions import measure
from syn_ray.embedded.make.idx import DEFAULT_DATA, GENERATOR_SPLIT, load_fashion


def main() -> None:
    """Prints one row for each class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    data = load_fashion(parser.parse_args().data)
    own = slice(GENERATOR_SPLIT.start, GENERATOR_SPLIT.stop)
    measured, labels = measure(data.train_images[own]), data.train_labels[own]
    for label, name in enumerate(CLASS_NAMES):
        tone, shape, pattern = measured[labels == label].T
        thirds = [1 / 3, 2 / 3]
        row = [*np.quantile(tone, thirds), *np.quantile(shape, thirds), np.median(pattern)]
        print(f"        ({', '.join(f'{value:.4g}' for value in row)}),  # {name}")


if __name__ == "__main__":
    main()
