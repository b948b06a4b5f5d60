#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Functions that C compilers make with several sets of options, with probes on calls and returns."""
import languages

if __name__ == "__main__":
    languages.main(["c"])
