#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of what make bench does with its figures (make lint)."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import bursts
import marks
import report
from records import Results, same_lines, segments, spread


def with_hits(**over):
    """Figures that meet the marks on hits; OVER are other values, by case."""
    good = {"empty-interrupt": 280, "empty-task": 320, "tracefs-noarg": 600,
            "entry-return": 700, "entry-return-sized": 500}
    results = Results()
    for case, value in {**good, **{k.replace("_", "-"): v for k, v in over.items()}}.items():
        results.add(value if isinstance(value, list) else [value, value], case, "nop", "ours")
    results.add([1500, 1500], "entry-return", "nop", "mainline")
    return results


def missed(results, *parts):
    return [text.split(":")[0] for met, text in marks.judge(results, parts) if not met]


class Records(unittest.TestCase):
    def one(self, values, unit="instructions"):
        results = Results()
        results.add(values, "case", "nop", "ours", unit)
        return results.records[0]

    def test_spread(self):
        self.assertEqual(spread([5]), 0)
        self.assertEqual(spread([0, 0]), 0)
        self.assertAlmostEqual(spread([99, 100, 102]), 0.03)
        self.assertAlmostEqual(spread([-99, -100, -102]), 0.03)
        self.assertIsNone(spread([-1, 0, 1]))

    def test_figure(self):
        record = self.one([300, 302])
        self.assertEqual((record["instructions"], record["runs"]), (301, 2))
        self.assertNotIn("reproduced", record)

    def test_not_reproduced(self):
        for values in ([300, 310], [-1, 0, 1], [300, None]):
            record = self.one(values)
            self.assertNotIn("instructions", record, values)
            self.assertIs(record["reproduced"], False, values)

    def test_not_available(self):
        for values in ([], [None, None]):
            record = self.one(values)
            self.assertNotIn("instructions", record)
            self.assertIs(record["available"], False)
            self.assertEqual(record["runs"], 0)

    def test_ratios_may_differ(self):
        self.assertEqual(self.one([1.5, 2.0, 1.8], "ratio")["ratio"], 1.8)


class Lines(unittest.TestCase):
    def test_values(self):
        runs = [[["a", "nop", "1"], ["a", "avx", "-"]], [["a", "nop", "2"], ["a", "avx", "3"]]]
        self.assertEqual(list(same_lines(runs)),
                         [("a", "nop", [1.0, 2.0]), ("a", "avx", [None, 3.0])])

    def test_different_runs(self):
        for other in ([], [["a", "push", "1"]]):
            with self.assertRaises(ValueError):
                list(same_lines([[["a", "nop", "1"]], other]))

    def test_segments(self):
        log = ["     0: v=03 e=0000 i=1 cpl=3 IP=0033:1",  # before the first mark
               "     1: v=00 e=0000 i=0 cpl=3 IP=0033:1",
               "     2: v=03 e=0000 i=1 cpl=3 IP=0033:2",
               "     3: v=01 e=0000 i=0 cpl=3 IP=0033:3",
               "     4: v=03 e=0000 i=1 cpl=0 IP=0010:4",  # of the kernel itself
               "     5: v=0e e=0004 i=0 cpl=3 IP=0033:5",
               "RAX=03",
               "     6: v=00 e=0000 i=0 cpl=3 IP=0033:1"]
        self.assertEqual(list(segments(log)), [[1, 1], [0, 0]])
        self.assertEqual(list(segments([])), [])


class Bursts(unittest.TestCase):
    def of(self, *lines):
        """With two ticks in a nanosecond."""
        return list(bursts.bursts([line.split() for line in lines], 2e9))

    def test_rate(self):
        one, two = self.of("@bursts", "@times 0 0 0 0", "burst 1 100 2000", "@times 900 100 0 900",
                           "@times 900 100 0 900", "burst 2 170 2000", "@times 1800 200 900 1000")
        # The second processor has no part in a burst of one thread.
        self.assertEqual((one.threads, one.waiting, two.waiting), (1, 0.1, 0.1))
        self.assertAlmostEqual(two.rate / one.rate, 1.7)
        self.assertAlmostEqual(one.rate, 100 / 900e-9)

    def test_without_times(self):
        self.assertEqual(self.of("@times", "burst 1 100 2000", "@times 900 100"), [])
        self.assertEqual(self.of("burst 1 100 2000", "@times 900 100"), [])
        self.assertEqual(self.of("@times 0 0", "burst 1 100 2000", "@times"), [])
        self.assertEqual(self.of("@times 0 0", "burst 1 100 2000"), [])

    def test_another_guest(self):
        self.assertEqual(self.of("@times 0 0", "burst 1 100 2000", "@bursts", "@times 900 100"), [])

    def test_disturbed(self):
        found = [bursts.Burst(1, 10, 0), bursts.Burst(2, 17, 0.1), bursts.Burst(2, 25, 0.11)]
        self.assertEqual(bursts.ratio(found, 2), 1.7)
        self.assertIsNone(bursts.ratio(found[1:], 2))
        self.assertIsNone(bursts.ratio(found[::2], 2))
        self.assertEqual(bursts.share([found[:2], found[2:]]), 2 / 3)


class Marks(unittest.TestCase):
    def test_met(self):
        self.assertEqual(missed(with_hits(), "hits"), [])

    def test_at_the_limit(self):
        self.assertEqual(missed(with_hits(empty_task=340, entry_return=750), "hits"), [])

    def test_over(self):
        self.assertEqual(missed(with_hits(empty_task=341, entry_return=751), "hits"),
                         ["empty-task", "entry-return"])

    def test_not_reproduced_is_not_met(self):
        self.assertEqual(missed(with_hits(tracefs_noarg=[600, 500]), "hits"), ["tracefs-noarg"])

    def test_one_without_a_figure_is_not_met(self):
        results = with_hits()
        results.add([None, None], "empty-task", "avx", "ours")
        self.assertEqual(missed(results, "hits"), ["empty-task"])

    def test_what_mainline_refuses_is_not_compared(self):
        results = with_hits()
        results.add([700, 700], "entry-return", "lock", "ours")
        results.add([None, None], "entry-return", "lock", "mainline")
        self.assertEqual(missed(results, "hits"), [])

    def test_nothing_known(self):
        for part in marks.OF_PARTS:
            judged = list(marks.judge(Results(), (part,)))
            self.assertTrue(judged, part)
            self.assertFalse(any(met for met, _ in judged), part)

    def test_only_of_what_is_measured(self):
        self.assertEqual(list(marks.judge(Results(), ("times", "register"))), [])

    def test_among(self):
        for many, met in ((315, True), (316, False)):
            results = Results()
            results.add([300, 300], "among", "nop", "ours", breakpoints=1)
            results.add([many, many], "among", "nop", "ours", breakpoints=100000)
            self.assertEqual(not missed(results, "among"), met, many)

    def test_scale(self):
        for rate, met in ((1.9, True), (1.89, False)):
            results = Results()
            results.add([2.0], "scale", "nop", "ours", "ratio", cpus=2, threads=16)
            results.add([rate], "scale", "nop", "ours", "ratio", cpus=2, threads=2)
            self.assertEqual(not missed(results, "scale"), met, rate)
        results.add([1.95], "apart", "nop", "ours", "ratio", cpus=2, processes=2)
        (_, text), = marks.judge(results, ("scale",))
        self.assertIn("found 1.89; of two processes that share no probe 1.95", text)

    def test_costs(self):
        results = Results()
        for case, ours, none in (("others-fork", 1010, 1000), ("others-exec", 1011, 1000)):
            results.add([ours, ours], case, "-", "ours")
            results.add([none, none], case, "-", "none")
        results.add([100, 110], "others-mmap", "-", "none")
        self.assertEqual(missed(results, "costs"), ["others-exec", "others-mmap"])


class Report(unittest.TestCase):
    def setUp(self):
        self.results = with_hits(tracefs_noarg=[600, 500])
        self.results.add([None, None], "bpf", "nop", "ours")
        self.results.find(case="empty-task")[0]["traps"] = 1.0
        self.results.add([1.9, 2.0], "scale", "nop", "ours", "ratio", cpus=2, threads=2)
        self.results.add([None], "unregister", "nop", "mainline", probes=1000)

    def test_table(self):
        lines = report.table(self.results).split("\n")
        for line in ("| empty-task | ours | 320 (1) |", "| tracefs-noarg | ours | not reproduced |",
                     "| bpf | ours | – |", "| scale | 2 threads | ours | 1.95 | ratio | 5.13% |",
                     "| unregister | 1,000 probes | mainline | – |  |  |"):
            self.assertIn(line, lines)

    def test_plots(self):
        try:
            import matplotlib  # pylint: disable=unused-import
        except ImportError:
            self.skipTest("no matplotlib")
        with tempfile.TemporaryDirectory() as folder:
            names = report.plots(self.results, folder)
            self.assertEqual(sorted(names), sorted(os.listdir(folder)))
            self.assertIn("hits.svg", names)


if __name__ == "__main__":
    unittest.main()
