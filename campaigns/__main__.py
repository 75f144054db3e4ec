"""`python -m campaigns NAME [ARGUMENT...]`: run one campaign; without a name, list them all.

Each campaign is a module with `main(argv) -> int`, imported only when it is asked for.
"""

from __future__ import annotations

import importlib
import sys

from residual.errors import ResidualError, UsageError, nearest

CAMPAIGNS = {
    "digits": "campaigns.digits: the embedded digits over several seeds, mean and spread",
    "kill": "campaigns.kill: runs killed at random moments and resumed equal the run that was left alone",
    "damage": "campaigns.damage: every damaged byte of a checkpoint or data set is found before it is used",
    "faults": "campaigns.faults: a disk that refuses, at each place it can, costs one line and no work",
    "cifar10-fast": "campaigns.cifar10_fast: CIFAR-10 in a short run, mean and spread over seeds",
    "cifar10-paper": "campaigns.cifar10_paper: CIFAR-10 by the recipe of the paper, beside its table 6",
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m campaigns NAME [ARGUMENT...]\n")
        for name, entry in CAMPAIGNS.items():
            print(f"  {name:<15}{entry.partition(': ')[2]}")
        return 0
    name, *rest = argv
    try:
        if name not in CAMPAIGNS:
            raise UsageError(f"no campaign named {name!r}", remedy=nearest(name, list(CAMPAIGNS)))
        module = importlib.import_module(CAMPAIGNS[name].partition(":")[0])
        return int(module.main(rest))
    except ResidualError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
