"""What runs first in ipam.pyz: refuse an interpreter that is too old in one line, else hand over to _ipam_boot.

Nothing here may be newer than Python 2, or the refusal would be a syntax error.
"""

import sys


def main():  # type: ignore[no-untyped-def]
    """Return the exit code of the program."""
    if sys.version_info < (3, 11):  # noqa: UP036
        found = "Python " + ".".join(str(number) for number in sys.version_info[:2])
        program = sys.argv[0]
        sys.stderr.write(program + ": needs Python 3.11 or newer, this is " + found)
        sys.stderr.write("; run it with one, for example: python3.11 " + program + "\n")
        return 1

    import _ipam_boot

    return _ipam_boot.main()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[no-untyped-call]
