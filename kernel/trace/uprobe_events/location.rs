// SPDX-License-Identifier: GPL-2.0

//! `PID:VADDR`: syntax of probe locations.

use crate::{
    command::Problem,
    entry::ProbeKind, //
};
use kernel::prelude::*;

/// Address in a process, as a line names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProbeLocation {
    /// Number of a thread.
    pub(crate) pid: i32,
    /// Address in the thread's process.
    pub(crate) addr: usize,
    /// Offset of the address in the word.
    pub(crate) addr_offset: usize,
    /// Kind of the probe.
    pub(crate) kind: ProbeKind,
    /// Size in bytes of the function at the address, if the word has its end.
    pub(crate) size: Option<usize>,
}

/// Error in a word that should be a [`ProbeLocation`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Offset of the error in the word.
    pub(crate) offset: usize,
    pub(crate) problem: Problem,
    pub(crate) error: Error,
}

impl Malformed {
    fn new(offset: usize, problem: Problem) -> Self {
        Self {
            offset,
            problem,
            error: EINVAL,
        }
    }
}

impl ProbeLocation {
    /// Parses a word of a line that asks for a probe of this kind.
    pub(crate) fn parse(word: &[u8], kind: ProbeKind) -> Result<Self, Malformed> {
        let (pid, rest) = split(word).ok_or(Malformed::new(0, Problem::NoPidAddress))?;
        let addr_offset = pid.len() + 1;
        let pid = parse_pid(pid).ok_or(Malformed::new(0, Problem::BadPid))?;

        let (rest, kind) = match cut(rest, b'%') {
            None => (rest, kind),
            Some((rest, b"return")) => (rest, ProbeKind::Return),
            Some((rest, _)) => {
                let at = addr_offset + rest.len();
                return Err(Malformed::new(at, Problem::BadAddressSuffix));
            }
        };
        let address_at = |text: &[u8], at| {
            parse_address(text).ok_or(Malformed::new(at, Problem::BadProbeAddress))
        };
        let (addr, size) = match cut(rest, b'-') {
            None => (address_at(rest, addr_offset)?, None),
            Some((start, end)) => {
                let dash = addr_offset + start.len();
                let start = address_at(start, addr_offset)?;
                if kind == ProbeKind::Hit {
                    return Err(Malformed::new(dash, Problem::RangeOnProbe));
                }
                let size = address_at(end, dash + 1)?
                    .checked_sub(start)
                    .filter(|&size| size > 0)
                    .ok_or(Malformed::new(dash + 1, Problem::BadRange))?;
                (start, Some(size))
            }
        };

        Ok(Self {
            pid,
            addr,
            addr_offset,
            kind,
            size,
        })
    }

    /// Returns whether a word, of a line that may be for any type of events, is meant to be a
    /// location.
    ///
    /// The part before a colon can also be the name of a module, but no number follows it then.
    pub(crate) fn is_meant(word: &[u8]) -> bool {
        split(word).is_some_and(|(pid, addr)| {
            pid.iter().all(u8::is_ascii_digit) && addr.first().is_some_and(u8::is_ascii_digit)
        })
    }
}

/// Splits a word at its first colon, if the part before it is not empty.
fn split(word: &[u8]) -> Option<(&[u8], &[u8])> {
    cut(word, b':').filter(|(before, _)| !before.is_empty())
}

/// Splits a word at the first `mark`.
fn cut(word: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = word.iter().position(|&c| c == mark)?;

    Some((word.get(..at)?, word.get(at + 1..)?))
}

/// Parses a positive decimal number.
fn parse_pid(text: &[u8]) -> Option<i32> {
    let pid = parse_digits(text, 10)?;

    i32::try_from(pid).ok().filter(|&pid| pid > 0)
}

/// Parses a number in any of the forms that `kstrtoul()` accepts.
fn parse_address(text: &[u8]) -> Option<usize> {
    let text = text.strip_prefix(b"+").unwrap_or(text);

    match text {
        [b'0', b'x' | b'X', digits @ ..] => parse_digits(digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => parse_digits(digits, 8),
        _ => parse_digits(text, 10),
    }
}

/// Parses a number that has at least one digit, no other characters, and fits.
fn parse_digits(text: &[u8], radix: u32) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0usize, |value, &c| {
        let digit = char::from(c).to_digit(radix)?;

        value
            .checked_mul(radix as usize)?
            .checked_add(digit as usize)
    })
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[kunit_tests(uprobe_events_location)]
mod tests {
    use super::*;

    fn problem_of(word: &[u8], kind: ProbeKind) -> Option<(usize, Problem, Error)> {
        let wrong = ProbeLocation::parse(word, kind).err()?;

        Some((wrong.offset, wrong.problem, wrong.error))
    }

    fn problem(word: &[u8]) -> Option<(usize, Problem, Error)> {
        problem_of(word, ProbeKind::Hit)
    }

    fn address(word: &[u8]) -> Option<usize> {
        ProbeLocation::parse(word, ProbeKind::Hit)
            .ok()
            .map(|location| location.addr)
    }

    fn function(word: &[u8], kind: ProbeKind) -> Option<(usize, Option<usize>)> {
        let location = ProbeLocation::parse(word, kind).ok()?;

        (location.kind == ProbeKind::Return).then_some((location.addr, location.size))
    }

    #[test]
    fn parses_pid_and_address() {
        let expected = ProbeLocation {
            pid: 1234,
            addr: 0x401126,
            addr_offset: 5,
            kind: ProbeKind::Hit,
            size: None,
        };
        assert_eq!(
            ProbeLocation::parse(b"1234:0x401126", ProbeKind::Hit),
            Ok(expected)
        );
    }

    #[test]
    fn functions_may_have_an_end() {
        assert_eq!(function(b"1:0x10", ProbeKind::Return), Some((16, None)));
        assert_eq!(
            function(b"1:0x10-0x11", ProbeKind::Return),
            Some((16, Some(1)))
        );
        assert_eq!(function(b"1:0-020", ProbeKind::Return), Some((0, Some(16))));
        assert_eq!(
            function(b"1:0-0xffffffffffffffff", ProbeKind::Return),
            Some((0, Some(usize::MAX)))
        );
    }

    #[test]
    fn returns_can_be_asked_for_in_the_location() {
        assert_eq!(function(b"1:0x10", ProbeKind::Hit), None);
        for kind in [ProbeKind::Hit, ProbeKind::Return] {
            assert_eq!(function(b"1:0x10%return", kind), Some((16, None)));
            assert_eq!(function(b"1:16-32%return", kind), Some((16, Some(16))));
        }
    }

    #[test]
    fn bad_ends_are_found_after_the_hyphen() {
        let bad: [(&[u8], Problem); 8] = [
            (b"12:16-", Problem::BadProbeAddress),
            (b"12:16-0x", Problem::BadProbeAddress),
            (b"12:16-zz", Problem::BadProbeAddress),
            (b"12:16--1", Problem::BadProbeAddress),
            (b"12:16-32-48", Problem::BadProbeAddress),
            (b"12:16-16", Problem::BadRange),
            (b"12:16-15", Problem::BadRange),
            (b"12:16-0", Problem::BadRange),
        ];
        for (word, expected) in bad {
            assert_eq!(
                problem_of(word, ProbeKind::Return),
                Some((6, expected, EINVAL))
            );
        }
        assert_eq!(
            problem_of(b"12:-0x10", ProbeKind::Return),
            Some((3, Problem::BadProbeAddress, EINVAL))
        );
    }

    #[test]
    fn only_functions_have_an_end() {
        let expected = Some((7, Problem::RangeOnProbe, EINVAL));
        assert_eq!(problem(b"12:0x10-0x20"), expected);
        assert_eq!(problem(b"12:0x10-junk"), expected);
    }

    #[test]
    fn suffixes_are_known_or_refused() {
        let bad: [&[u8]; 5] = [
            b"12:0x10%",
            b"12:0x10%ret",
            b"12:0x10%returns",
            b"12:0x10%return%return",
            b"12:0x10%return-0x20",
        ];
        for word in bad {
            for kind in [ProbeKind::Hit, ProbeKind::Return] {
                let expected = Some((7, Problem::BadAddressSuffix, EINVAL));
                assert_eq!(problem_of(word, kind), expected);
            }
        }
        assert_eq!(
            problem(b"12:%return"),
            Some((3, Problem::BadProbeAddress, EINVAL))
        );
    }

    #[test]
    fn addresses_have_the_forms_of_kstrtoul() {
        assert_eq!(address(b"1:0x10"), Some(16));
        assert_eq!(address(b"1:0XfF"), Some(255));
        assert_eq!(address(b"1:010"), Some(8));
        assert_eq!(address(b"1:10"), Some(10));
        assert_eq!(address(b"1:+10"), Some(10));
        assert_eq!(address(b"1:0"), Some(0));
        assert_eq!(address(b"1:0xffffffffffffffff"), Some(usize::MAX));
    }

    #[test]
    fn bad_addresses_are_found_after_the_colon() {
        let bad: [&[u8]; 10] = [
            b"12:",
            b"12:0x",
            b"12:xyz",
            b"12:-1",
            b"12:08",
            b"12:1 ",
            b"12:1:2",
            b"12:0x1g",
            b"12:0x10000000000000000",
            b"12:18446744073709551616",
        ];
        for word in bad {
            assert_eq!(problem(word), Some((3, Problem::BadProbeAddress, EINVAL)));
        }
    }

    #[test]
    fn bad_pids_are_found_at_the_start() {
        let bad: [&[u8]; 7] = [
            b"0:0x10",
            b"-1:0x10",
            b"+1:0x10",
            b"0x1:0x10",
            b"abc:0x10",
            b"2147483648:0x10",
            b"99999999999999999999:0x10",
        ];
        for word in bad {
            assert_eq!(problem(word), Some((0, Problem::BadPid, EINVAL)));
        }
        assert!(ProbeLocation::parse(b"2147483647:0x10", ProbeKind::Hit).is_ok());
    }

    #[test]
    fn other_words_are_not_locations() {
        let bad: [&[u8]; 5] = [b"", b"1234", b":0x10", b"vfs_read", b"/bin/sh"];
        for word in bad {
            assert_eq!(problem(word), Some((0, Problem::NoPidAddress, EINVAL)));
        }
    }

    #[test]
    fn locations_differ_from_symbols() {
        assert!(ProbeLocation::is_meant(b"12:0x10"));
        assert!(ProbeLocation::is_meant(b"12:0junk"));
        assert!(!ProbeLocation::is_meant(b"8250:serial8250_init"));
        assert!(!ProbeLocation::is_meant(b"ext4:ext4_open"));
        assert!(!ProbeLocation::is_meant(b"/bin/sh:0x10"));
        assert!(!ProbeLocation::is_meant(b"vfs_read+4"));
        assert!(!ProbeLocation::is_meant(b":1"));
    }
}
