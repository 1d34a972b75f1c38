"""`python -m tests.crash --schedules 10000 --seed S`: run schedules of the crash machine, print what they came to.

Exit code 0 when every schedule is good, 1 with the first bad seeds, each of which replays exactly:
`python -m tests.crash --schedules 1 --seed THAT --history`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.crash.run import STORES, run_schedule
from tests.crash.world import Summary


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000, help="how many schedules (default 1000)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first one (default: from the time)")
    parser.add_argument("--store", choices=sorted(STORES), default="memory", help="the store to run on")
    parser.add_argument(
        "--latecomers", action="store_true", help="NetBox may carry a request out after its caller gave up"
    )
    parser.add_argument("--warm", action="store_true", help="with a warm pool, and now and then a cooldown")
    parser.add_argument("--rush", action="store_true", help="many clients want an address of one zone at once")
    parser.add_argument("--picture", action="store_true", help="with a picture of what is taken, and with intruders")
    parser.add_argument(
        "--events", action="store_true", help="with a picture, and with events of NetBox, true and false"
    )
    parser.add_argument("--descriptions", action="store_true", help="with descriptions, and people who write others")
    parser.add_argument("--history", action="store_true", help="print what happened in a bad schedule")
    parser.add_argument("--first", action="store_true", help="stop at the first bad schedule, not at the tenth")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    first = int(time.time()) * 1000 if args.seed is None else args.seed
    total, bad = Summary(), 0
    began = time.monotonic()
    for number in range(args.schedules):
        summary, history = run_schedule(
            first + number,
            store=args.store,
            latecomers=args.latecomers,
            warm=args.warm,
            rush=args.rush,
            picture=args.picture,
            events=args.events,
            descriptions=args.descriptions,
        )
        total.add(summary)
        if summary.problems:
            bad += 1
            print(f"seed {first + number}:", *summary.problems, sep="\n  ")
            if args.history:
                print(*history, sep="\n")
            if bad == (1 if args.first else 10):
                break
        if sys.stderr.isatty() and number % 50 == 0:
            print(f"\r{number}/{args.schedules} schedules, {bad} bad", end="", file=sys.stderr)
    print(total.report(time.monotonic() - began, first))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
