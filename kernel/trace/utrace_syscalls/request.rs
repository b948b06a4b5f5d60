// SPDX-License-Identifier: GPL-2.0

//! Requests that are written to `utrace_syscall_pids`.

use kernel::{
    prelude::*,
    task::Pid, //
};

/// The request of one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// `PID`
    Add(Pid),
    /// `!PID` or `-PID`
    Remove(Pid),
}

/// Returns the requests of the words of a text.
///
/// # Errors
///
/// `EINVAL`, as an item, for a word that is no request.
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = Result<Request>> + '_ {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| match word {
            [b'!' | b'-', pid @ ..] => parse_pid(pid).map(Request::Remove),
            pid => parse_pid(pid).map(Request::Add),
        })
}

/// Parses a positive decimal number, of digits only.
fn parse_pid(digits: &[u8]) -> Result<Pid> {
    let pid = digits.iter().try_fold(0, |value: Pid, &c| {
        let digit = char::from(c).to_digit(10)?;

        value.checked_mul(10)?.checked_add(digit as Pid)
    });
    // Without digits, `pid` is 0.
    pid.filter(|&pid| pid > 0).ok_or(EINVAL)
}

#[cfg(CONFIG_UTRACE_SYSCALL_EVENTS_KUNIT_TEST)]
#[kunit_tests(utrace_syscalls_request)]
mod tests {
    use super::*;

    /// Returns the only request in a text.
    fn only(text: &[u8]) -> Result<Request> {
        let mut requests = parse(text);

        match (requests.next(), requests.next()) {
            (Some(request), None) => request,
            _ => Err(ENODATA),
        }
    }

    #[test]
    fn a_number_is_added() {
        assert_eq!(only(b"1"), Ok(Request::Add(1)));
        assert_eq!(only(b"4711\n"), Ok(Request::Add(4711)));
        assert_eq!(only(b"2147483647"), Ok(Request::Add(Pid::MAX)));
    }

    #[test]
    fn a_number_with_a_sign_is_removed() {
        assert_eq!(only(b"!12"), Ok(Request::Remove(12)));
        assert_eq!(only(b"-12"), Ok(Request::Remove(12)));
    }

    #[test]
    fn numbers_are_decimal() {
        assert_eq!(only(b"010"), Ok(Request::Add(10)));
        assert_eq!(only(b"0x10"), Err(EINVAL));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let bad: [&[u8]; 14] = [
            b"0", b"!0", b"-0", b"!", b"-", b"!!1", b"--1", b"!-1", b"+1", b"1,2", b"1a", b"abc",
            b"1\0", b"\xff",
        ];
        for word in bad {
            assert_eq!(only(word), Err(EINVAL));
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(only(b"2147483648"), Err(EINVAL));
        assert_eq!(only(b"!2147483648"), Err(EINVAL));
        assert_eq!(only(b"4294967297"), Err(EINVAL));
        assert_eq!(only(b"99999999999999999999999"), Err(EINVAL));
    }

    #[test]
    fn words_are_carried_out_in_their_order() {
        let expected = [
            Ok(Request::Add(5)),
            Ok(Request::Remove(6)),
            Err(EINVAL),
            Ok(Request::Add(7)),
        ];
        assert!(parse(b" 5\t!6\nx  7\n").eq(expected));
    }

    #[test]
    fn there_may_be_nothing() {
        assert_eq!(parse(b"").next(), None);
        assert_eq!(parse(b" \n\t\n").next(), None);
    }
}
