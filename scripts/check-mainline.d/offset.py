# SPDX-License-Identifier: GPL-2.0
"""Prints the offset in its file of a symbol's address: offset.py FILE SYMBOL"""
import subprocess
import sys


def lines(*arguments):
    return subprocess.run(["readelf", "-W", *arguments, sys.argv[1]], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.split("\n")


def main():
    symbols = [line.split() for line in lines("-s")]
    address = next(int(w[1], 16) for w in symbols if len(w) == 8 and w[7] == sys.argv[2])
    for words in (line.split() for line in lines("-l")):
        if words[:1] == ["LOAD"]:
            offset, start, size = (int(words[i], 16) for i in (1, 2, 4))
            if start <= address < start + size:
                print(hex(address - start + offset))


main()
