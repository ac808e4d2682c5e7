"""Run `burn(rounds)` so many times once a line arrives, in a process that does nothing else: what is ideal.

python -c "import bare; bare.main()" ROUNDS TIMES
"""

import sys


def burn(rounds):
    """Do so much work, however long it takes."""
    total = 0
    for n in range(rounds):
        total += n
    return total


def main():
    rounds, times = int(sys.argv[1]), int(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(times):
        burn(rounds)
