// SPDX-License-Identifier: GPL-2.0

//! Tests of the parts that need no process. `tools/testing/selftests/utrace` tests the events.

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
            signal::SignalReport,
            Action,
            DeathNotify,
            Disposition,
            Engine,
            Event,
            Events,
            Exit,
            JobControlChange,
            Progress,
            Registers,
            SignalEvent,
            Syscall,
            SyscallEntry,
            SyscallExit,
            WaitStatus, //
        },
    };

    const SIGUSR1: i32 = 10;
    const SIGSEGV: i32 = bindings::SIGSEGV as i32;

    #[test]
    fn actions_match_c() {
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
            // The other bits do not matter, and are kept.
            assert_eq!(Action::from_answer(0x150 | number as u32), action);
            assert_eq!(action.answer(0x153), 0x150 | number as u32);
        }
        assert_eq!(Action::from_raw(7), Err(EINVAL));
        assert_eq!(Action::from_answer(7), Action::Resume);
    }

    #[test]
    fn in_progress_is_not_an_error() {
        assert_eq!(Progress::from_ret(0), Ok(Progress::Done));
        assert_eq!(
            Progress::from_ret(EINPROGRESS.to_errno()),
            Ok(Progress::Underway)
        );
        assert_eq!(Progress::from_ret(ESRCH.to_errno()), Err(ESRCH));
    }

    #[test]
    fn events_match_c() {
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
        assert_eq!(
            Events::DEATH
                .without(Events::from_event(Event::Death))
                .bits(),
            Event::Reap.bit()
        );

        assert_eq!(Events::from_bits(0xffff), Ok(all));
        assert_eq!(Events::from_bits(0x10000), Err(EINVAL));
        assert!(all.has(Event::Quiesce) && all.has(Event::LastExit));
        assert!(!Events::SYSCALLS.has(Event::Path));
    }

    #[test]
    fn wait_status() {
        let exited = WaitStatus::from_exit_code(3);
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
    fn death_notification() {
        let of = |signal| Death::new(false, signal).notify;
        assert_eq!(of(17), DeathNotify::Parent(17));
        assert_eq!(of(0), DeathNotify::Parent(0));
        assert_eq!(of(-1), DeathNotify::NoOne);
        assert_eq!(of(-2), DeathNotify::Later);
    }

    #[test]
    fn job_control() {
        let stopped = JobControl::new(bindings::CLD_STOPPED as c_int, 0);
        assert_eq!(stopped.change, JobControlChange::Stopped);
        assert!(!stopped.parent_notified);
        let continued = bindings::CLD_CONTINUED as c_int;
        let continued = JobControl::new(continued, continued);
        assert_eq!(continued.change, JobControlChange::Continued);
        assert!(continued.parent_notified);
    }

    /// Calls `with` for a signal with the initial `bits`. Returns the bits after the call, and the
    /// `siginfo`.
    fn signal(
        bits: u32,
        number: i32,
        code: i32,
        with: impl FnOnce(SignalEvent<'_>),
    ) -> (u32, bindings::kernel_siginfo) {
        let mut info: bindings::kernel_siginfo = pin_init::zeroed();
        info.__bindgen_anon_1.si_signo = number;
        info.__bindgen_anon_1.si_code = code;
        info.__bindgen_anon_1._sifields._sigfault._addr = 0x1234 as *mut c_void;
        let mut action = pin_init::zeroed();
        let mut signal_report = SignalReport {
            bits,
            info: &mut info,
            action: &mut action,
        };
        with(SignalEvent::new(&mut signal_report));
        (signal_report.bits, info)
    }

    #[test]
    fn dispositions_match_c() {
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
            let found = Some(disposition).filter(|it| *it != Disposition::Hold);
            assert_eq!(
                Disposition::from_answer(bits),
                found.or(Some(Disposition::Ignore))
            );
            // The first engine passes it on, the second changes it.
            let (passed, _) = signal(bits, SIGUSR1, 0, |event| {
                let SignalEvent::Signal(signal) = event else {
                    panic!("there is a signal");
                };
                assert_eq!(signal.found(), disposition);
                assert_eq!((signal.number(), signal.address()), (SIGUSR1, None));
            });
            assert_eq!(passed, bits);
            let (decided, _) = signal(0x30, SIGUSR1, 0, |event| {
                if let SignalEvent::Signal(mut signal) = event {
                    signal.decide(disposition);
                }
            });
            assert_eq!(decided, bits);
        }
    }

    #[test]
    fn fault_address() {
        // SEGV_MAPERR.
        signal(0x30, SIGSEGV, 1, |event| {
            let SignalEvent::Signal(signal) = event else {
                panic!("there is a signal");
            };
            assert_eq!((signal.code(), signal.address()), (1, Some(0x1234)));
        });
        // SI_USER.
        signal(0x30, SIGSEGV, 0, |event| {
            assert!(matches!(event, SignalEvent::Signal(signal) if signal.address().is_none()));
        });
    }

    #[test]
    fn raise_signal() {
        for bits in [0x60, 0x70] {
            for (number, raised) in [(SIGUSR1, true), (9, false), (0, false), (65, false)] {
                let (after, info) = signal(bits, 0, 0, |event| match event {
                    SignalEvent::Report(none) if bits == 0x60 => {
                        assert_eq!(none.raise(number).is_ok(), raised);
                    }
                    SignalEvent::Handler(none) if bits == 0x70 => {
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
    fn syscall_entry_and_exit() {
        let regs = PtRegs::for_test(true);
        let thread = current!();
        let found = Action::Stop as u32;
        // SAFETY: `regs` is a local value, which only `report` accesses.
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

        // The next engine finds this decision, and has the call executed.
        // SAFETY: `regs` is a local value, and `entry`, which accessed it, is not used any more.
        let report = unsafe { Report::new(thread, answer, regs.as_ptr()) };
        let mut entry = SyscallEntry::new(report, answer | bindings::UTRACE_SYSCALL_RESUMED);
        assert!(entry.is_repeated());
        assert_eq!(entry.found(), Syscall::Abort(Err(EPERM)));
        entry.decide(Syscall::Run);
        assert_eq!(entry.answer(Action::Resume), Action::Resume as u32);

        entry.set_arguments(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(entry.regs().gpr(7), 1);
        assert_eq!(entry.regs().gpr(9), 6);

        // SAFETY: `regs` is a local value, and `entry`, which accessed it, is not used any more.
        let mut exit = SyscallExit::new(unsafe { Report::new(thread, 5, regs.as_ptr()) });
        exit.set_result(Ok(7));
        assert_eq!(exit.result(), Ok(7));
        exit.set_result(Err(ERESTARTSYS));
        assert_eq!(exit.result(), Err(ERESTARTSYS));
    }

    #[test]
    fn registers_are_copied() {
        let mut original = PtRegs::for_test(true);
        original.set_ip(0x1000);
        let mut copy = Registers::from_regs(&original);
        copy.set_ip(0x2000);
        assert_eq!((original.ip(), copy.ip()), (0x1000, 0x2000));
        assert!(copy.is_64bit());
    }

    struct Nothing;

    impl Engine for Nothing {
        const EVENTS: Events = Events::NONE;
    }

    #[test]
    fn kernel_thread_is_refused() -> Result {
        let engine = Arc::new(Nothing, GFP_KERNEL)?;
        assert_eq!(attach(current!(), engine.clone()).err(), Some(EPERM));
        assert_eq!(
            attach_process(current!(), engine.clone()).err(),
            Some(EPERM)
        );
        // No reference to the engine was kept.
        assert!(Arc::into_unique_or_drop(engine).is_some());
        Ok(())
    }
}
