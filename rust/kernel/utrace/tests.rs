// SPDX-License-Identifier: GPL-2.0

//! Tests of the parts that need no process. Those of events are in
//! `tools/testing/selftests/utrace`.

#![cfg(CONFIG_RUST_UTRACE_KUNIT_TEST)]

#[macros::kunit_tests(rust_utrace)]
mod suite {
    use crate::{
        bindings, current,
        prelude::*,
        ptregs::PtRegs,
        sync::Arc,
        utrace::{
            attach,
            attach_process,
            exit::{
                Death,
                JobControl, //
            },
            report::Report,
            signal::Slot,
            Action,
            Change,
            Disposition,
            Engine,
            Event,
            Events,
            Exit,
            Mourner,
            Occasion,
            Progress,
            Registers,
            Syscall,
            SyscallEntry,
            SyscallExit,
            WaitStatus, //
        },
    };

    const SIGUSR1: i32 = 10;
    const SIGSEGV: i32 = bindings::SIGSEGV as i32;

    #[test]
    fn actions_are_the_numbers_of_c() {
        let all = [
            Action::Stop,
            Action::Interrupt,
            Action::Report,
            Action::SingleStep,
            Action::BlockStep,
            Action::Resume,
            Action::Detach,
        ];
        assert!(all.is_sorted());
        for (number, action) in all.into_iter().enumerate() {
            assert_eq!(action as usize, number);
            // What else is found does not matter, and stays.
            assert_eq!(Action::found_in(0x150 | number as u32), action);
            assert_eq!(action.answer(0x153), 0x150 | number as u32);
        }
        assert_eq!(Action::found_in(7), Action::Resume);
    }

    #[test]
    fn what_is_in_progress_is_no_error() {
        assert_eq!(Progress::from_ret(0), Ok(Progress::Done));
        assert_eq!(
            Progress::from_ret(EINPROGRESS.to_errno()),
            Ok(Progress::Underway)
        );
        assert_eq!(Progress::from_ret(ESRCH.to_errno()), Err(ESRCH));
    }

    #[test]
    fn events_are_the_bits_of_c() {
        let all = Events::SIGNALS
            .with(Events::SYSCALLS)
            .with(Events::QUIESCE)
            .with(Events::CLONE)
            .with(Events::EXEC)
            .with(Events::EXIT)
            .with(Events::DEATH)
            .with(Events::JOB_CONTROL)
            .with(Events::PATH)
            .with(Events::LAST_EXIT);
        assert_eq!(
            all.bits(),
            (1 << bindings::utrace_events__UTRACE_NEVENTS) - 1
        );
        assert_eq!(all.without(all), Events::NONE);
        assert!(all.contain(Events::NONE) && !Events::NONE.contain(all));
        assert!(Events::SIGNALS.intersect(Events::SIGNAL_CORE));
        assert!(!Events::SIGNALS.intersect(Events::SYSCALLS));

        assert_eq!(Event::from_bit(Events::EXEC.bits()), Some(Event::Exec));
        assert_eq!(Event::from_bit(0), None);
        // It precedes all that have a method with a report, so neither of these.
        assert_eq!(Event::from_bit(Events::QUIESCE.bits()), None);
        let reap = 1 << bindings::utrace_events__UTRACE_EVENT_REAP;
        assert_eq!(Event::from_bit(reap), None);
        assert_eq!(Events::DEATH.bits() & reap, reap);
    }

    #[test]
    fn statuses_are_those_of_wait() {
        let exited = WaitStatus::of_exit(3);
        assert_eq!(exited.raw(), 0x300);
        assert_eq!(exited.exited(), Some(3));
        assert_eq!(exited.killed_by(), None);
        let killed = WaitStatus::from_long(9);
        assert_eq!((killed.exited(), killed.killed_by()), (None, Some(9)));
        assert!(!killed.dumped_core());
        let crashed = WaitStatus::from_long(0x8b);
        assert_eq!(crashed.killed_by(), Some(SIGSEGV));
        assert!(crashed.dumped_core());

        let mut status = 0x300;
        let mut exit = Exit::new(9, &mut status);
        assert_eq!((exit.original(), exit.status()), (killed, exited));
        exit.set_status(crashed);
        assert_eq!(status, 0x8b);
    }

    #[test]
    fn the_dead_have_mourners() {
        let of = |signal| Death::new(false, signal).mourner;
        assert_eq!(of(17), Mourner::Parent(17));
        assert_eq!(of(0), Mourner::Parent(0));
        assert_eq!(of(-1), Mourner::Nobody);
        assert_eq!(of(-2), Mourner::Later);
    }

    #[test]
    fn job_control_is_told_from_what_the_parent_hears() {
        let stopped = JobControl::new(bindings::CLD_STOPPED as c_int, 0);
        assert_eq!(stopped.change, Change::Stopped);
        assert!(!stopped.parent_told);
        let continued = bindings::CLD_CONTINUED as c_int;
        let continued = JobControl::new(continued, continued);
        assert_eq!(continued.change, Change::Continued);
        assert!(continued.parent_told);
    }

    /// Calls `with` for a signal that was found with `bits`; returns what the bits are then, and
    /// the `siginfo`.
    fn signal(
        bits: u32,
        number: i32,
        code: i32,
        with: impl FnOnce(Occasion<'_>),
    ) -> (u32, bindings::kernel_siginfo) {
        let mut info: bindings::kernel_siginfo = pin_init::zeroed();
        info.__bindgen_anon_1.si_signo = number;
        info.__bindgen_anon_1.si_code = code;
        info.__bindgen_anon_1._sifields._sigfault._addr = 0x1234 as *mut c_void;
        let mut action = pin_init::zeroed();
        let mut slot = Slot {
            bits,
            info: &mut info,
            action: &mut action,
        };
        with(Occasion::new(&mut slot));
        (slot.bits, info)
    }

    #[test]
    fn dispositions_are_the_bits_of_c() {
        for (disposition, bits) in [
            (Disposition::Deliver, 0),
            (Disposition::Ignore, 0x10),
            (Disposition::Terminate, 0x20),
            (Disposition::Core, 0x30),
            (Disposition::Stop, 0x40),
            (Disposition::Tstp, 0x50),
            (Disposition::Hold, 0x110),
        ] {
            assert_eq!(disposition.bits(), bits);
            assert_eq!(Disposition::from_bits(bits), disposition);
            // Passed on by one engine, decided by the next.
            let (passed, _) = signal(bits, SIGUSR1, 0, |occasion| {
                let Occasion::Signal(signal) = occasion else {
                    panic!("there is a signal");
                };
                assert_eq!(signal.found(), disposition);
                assert_eq!((signal.number(), signal.address()), (SIGUSR1, None));
            });
            assert_eq!(passed, bits);
            let (decided, _) = signal(0x30, SIGUSR1, 0, |occasion| {
                if let Occasion::Signal(mut signal) = occasion {
                    signal.decide(disposition);
                }
            });
            assert_eq!(decided, bits);
        }
    }

    #[test]
    fn a_fault_has_an_address() {
        // SEGV_MAPERR.
        signal(0x30, SIGSEGV, 1, |occasion| {
            let Occasion::Signal(signal) = occasion else {
                panic!("there is a signal");
            };
            assert_eq!((signal.code(), signal.address()), (1, Some(0x1234)));
        });
        // SI_USER.
        signal(0x30, SIGSEGV, 0, |occasion| {
            assert!(matches!(occasion, Occasion::Signal(signal) if signal.address().is_none()));
        });
    }

    #[test]
    fn a_signal_is_raised_where_there_is_none() {
        for bits in [0x60, 0x70] {
            for (number, raised) in [(SIGUSR1, true), (9, false), (0, false), (65, false)] {
                let (after, info) = signal(bits, 0, 0, |occasion| match occasion {
                    Occasion::Report(none) if bits == 0x60 => {
                        assert_eq!(none.raise(number).is_ok(), raised);
                    }
                    Occasion::Handler(none) if bits == 0x70 => {
                        assert_eq!(none.raise(number).is_ok(), raised);
                    }
                    _ => panic!("there is no signal"),
                });
                assert_eq!(after, if raised { 0 } else { bits });
                let expected = if raised { SIGUSR1 } else { 0 };
                assert_eq!(info.__bindgen_anon_1.si_signo, expected);
            }
        }
    }

    #[test]
    fn system_calls_are_run_or_aborted() {
        let regs = PtRegs::made_up(true);
        let thread = current!();
        let found = Action::Stop as u32;
        // SAFETY: The registers are nobody else's.
        let report = unsafe { Report::new(thread, found, regs.as_ptr()) };
        let mut entry = SyscallEntry::new(report, found);
        assert_eq!(entry.action(), Action::Stop);
        assert!(!entry.is_repeated());
        assert_eq!(entry.found(), Syscall::Run);
        assert_eq!(entry.answer(Action::Resume), Action::Resume as u32);

        entry.decide(Syscall::Abort(Err(EPERM)));
        assert_eq!(entry.found(), Syscall::Abort(Err(EPERM)));
        let answer = entry.answer(Action::Report);
        assert_eq!(answer, 0x10 | Action::Report as u32);
        assert_eq!(entry.regs().gpr(0) as isize, EPERM.to_errno() as isize);

        // The next engine finds that, and has it run all the same.
        // SAFETY: As above; `entry` is not used any more.
        let report = unsafe { Report::new(thread, answer, regs.as_ptr()) };
        let mut entry = SyscallEntry::new(report, answer | bindings::UTRACE_SYSCALL_RESUMED);
        assert!(entry.is_repeated());
        assert_eq!(entry.found(), Syscall::Abort(Err(EPERM)));
        entry.decide(Syscall::Run);
        assert_eq!(entry.answer(Action::Resume), Action::Resume as u32);

        entry.set_arguments(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(entry.regs().gpr(7), 1);
        assert_eq!(entry.regs().gpr(9), 6);

        // SAFETY: As above.
        let mut exit = SyscallExit::new(unsafe { Report::new(thread, 5, regs.as_ptr()) });
        exit.set_result(Ok(7));
        assert_eq!(exit.result(), Ok(7));
        exit.set_result(Err(ERESTARTSYS));
        assert_eq!(exit.result(), Err(ERESTARTSYS));
    }

    #[test]
    fn registers_are_a_copy() {
        let mut original = PtRegs::made_up(true);
        original.set_ip(0x1000);
        let mut copy = Registers::of(&original);
        copy.set_ip(0x2000);
        assert_eq!((original.ip(), copy.ip()), (0x1000, 0x2000));
        assert!(copy.is_64bit());
    }

    struct Nothing;

    impl Engine for Nothing {
        const EVENTS: Events = Events::NONE;
    }

    #[test]
    fn a_kernel_thread_is_not_attached_to() -> Result {
        let engine = Arc::new(Nothing, GFP_KERNEL)?;
        assert_eq!(attach(current!(), engine.clone()).err(), Some(EPERM));
        assert_eq!(
            attach_process(current!(), engine.clone()).err(),
            Some(EPERM)
        );
        // Nothing has kept it.
        assert!(Arc::into_unique_or_drop(engine).is_some());
        Ok(())
    }
}
