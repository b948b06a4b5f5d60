// SPDX-License-Identifier: GPL-2.0

//! The context of a thread that has come from user mode, checked and restored around foreign code.
//!
//! A caller of code that it does not control, such as a handler of a module, creates a [`Context`]
//! before the call. If the context [is not kept](Context::is_kept) after the call, the caller
//! [restores](Context::restore) it.
//!
//! As after initcalls and timers, the counts are set to the values that they must have. No
//! operation of the foreign code is undone by its counterpart, because a count that is known to be
//! wrong does not say which operations changed it.
//!
//! C headers: [`include/linux/preempt.h`](srctree/include/linux/preempt.h),
//! [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

use crate::{
    bindings,
    fmt,
    types::NotThreadSafe, //
};

/// The context of the current thread, which has come from user mode and has disabled nothing but,
/// maybe, interrupts.
pub struct Context {
    interrupts_off: bool,
    _not_send: NotThreadSafe,
}

/// The differences that [`Context::restore`] has found.
///
/// Displayed, it is a list of what the foreign code has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imbalance {
    /// Interrupts were disabled.
    pub interrupts_disabled: bool,
    /// Interrupts were enabled: by the code, or by the scheduler when the code slept.
    pub interrupts_enabled: bool,
    /// Preemption, or bottom halves, were disabled or enabled.
    pub preemption: bool,
    /// RCU read-side critical sections were entered or left.
    pub rcu: bool,
    /// Tasks Trace RCU read-side critical sections were entered or left.
    pub tasks_trace: bool,
    /// Page faults were disabled or enabled.
    pub page_faults: bool,
    /// Migration was disabled.
    pub migration: bool,
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.interrupts_disabled, "left interrupts disabled"),
            (
                self.interrupts_enabled,
                "enabled interrupts, or slept with interrupts disabled",
            ),
            (self.preemption, "left preemption unbalanced"),
            (self.rcu, "left RCU unbalanced"),
            (self.tasks_trace, "left Tasks Trace RCU unbalanced"),
            (self.page_faults, "left page faults disabled"),
            (self.migration, "left migration disabled"),
        ];
        let mut comma = "";
        for (_, word) in words.iter().filter(|(is, _)| *is) {
            f.write_str(comma)?;
            f.write_str(word)?;
            comma = ", ";
        }
        Ok(())
    }
}

/// The counts of the current thread that are zero when it comes from user mode.
struct Counts {
    preemption: u32,
    rcu: i32,
    tasks_trace: i32,
    page_faults: i32,
    migration: u32,
}

impl Counts {
    #[inline(always)]
    fn now() -> Self {
        // SAFETY: These read values of the current thread and of its CPU. There are no
        // requirements on the caller.
        unsafe {
            Self {
                preemption: bindings::preempt_count(),
                rcu: bindings::rcu_preempt_depth(),
                tasks_trace: bindings::rcu_trace_depth(),
                page_faults: bindings::pagefault_depth(),
                migration: bindings::migration_depth(),
            }
        }
    }

    // One comparison for all, because each hit makes it.
    #[inline(always)]
    fn are_zero(&self) -> bool {
        // CAST: Only whether a bit is set matters.
        let signed = (self.rcu | self.tasks_trace | self.page_faults) as u32;
        self.preemption | self.migration | signed == 0
    }
}

impl Context {
    /// Returns the context of a thread that has come from user mode, and has disabled nothing but
    /// interrupts, if `interrupts_off`.
    // Nothing is read, because all of it is known.
    #[inline]
    pub fn from_user_mode(interrupts_off: bool) -> Self {
        Self {
            interrupts_off,
            _not_send: NotThreadSafe,
        }
    }

    /// Returns whether the context is still what it was.
    ///
    /// A thread that has slept comes back with interrupts enabled, so that sleeping with interrupts
    /// disabled is seen as well.
    #[inline(always)]
    pub fn is_kept(&self) -> bool {
        // SAFETY: There are no requirements on the caller.
        let interrupts_off = unsafe { bindings::irqs_disabled() };
        Counts::now().are_zero() && interrupts_off == self.interrupts_off
    }

    /// Makes the context what it was. Returns the differences.
    ///
    /// Locks that were taken and not released remain taken, because nothing says which they are.
    /// Softirqs that became pending while bottom halves were disabled run after the next interrupt.
    #[inline]
    pub fn restore(&self) -> Imbalance {
        restore(self.interrupts_off)
    }
}

// By value, so that callers, which mostly do not get here, need not store a context.
#[cold]
#[inline(never)]
fn restore(interrupts_off: bool) -> Imbalance {
    let now = Counts::now();
    // SAFETY: There are no requirements on the caller.
    let were_off = unsafe { bindings::irqs_disabled() };
    // SAFETY: The thread has come from user mode, as a `Context` says, so that it is in no section
    // and has disabled nothing. Interrupts are disabled while the counts are set, because a handler
    // of an interrupt uses them.
    unsafe {
        bindings::local_irq_disable();
        if now.preemption != 0 {
            bindings::preempt_count_reset();
        }
        bindings::rcu_preempt_reset();
        bindings::rcu_trace_reset();
        bindings::pagefault_reset();
        bindings::migration_reset();
        if !interrupts_off {
            bindings::local_irq_enable();
        }
    }
    Imbalance {
        interrupts_disabled: were_off && !interrupts_off,
        interrupts_enabled: !were_off && interrupts_off,
        preemption: now.preemption != 0,
        rcu: now.rcu != 0,
        tasks_trace: now.tasks_trace != 0,
        page_faults: now.page_faults != 0,
        migration: now.migration != 0,
    }
}

#[cfg(CONFIG_RUST_TASKS_TRACE_KUNIT_TEST)]
#[macros::kunit_tests(rust_context)]
mod tests {
    use super::*;
    use crate::{
        prelude::*,
        str::CString,
        task::Task, //
    };

    /// Has `change` change the context of the current thread, whose interrupts are enabled, and
    /// returns what was different.
    fn restored_after(change: impl FnOnce()) -> Imbalance {
        let context = Context::from_user_mode(false);
        assert!(context.is_kept());
        change();
        assert!(!context.is_kept());
        let imbalance = context.restore();
        assert!(context.is_kept());
        assert_eq!(context.restore(), Imbalance::default());
        imbalance
    }

    #[test]
    fn nothing_is_different() {
        let context = Context::from_user_mode(false);
        assert!(context.is_kept());
        assert_eq!(context.restore(), Imbalance::default());
    }

    #[test]
    fn interrupts_are_enabled_again() {
        let expected = Imbalance {
            interrupts_disabled: true,
            ..Imbalance::default()
        };
        // SAFETY: `restored_after()` enables them.
        let imbalance = restored_after(|| unsafe { bindings::local_irq_disable() });
        assert_eq!(imbalance, expected);
    }

    #[test]
    fn interrupts_are_disabled_again() {
        // SAFETY: Interrupts are enabled again at the end of the block.
        let (imbalance, is_off) = unsafe {
            bindings::local_irq_disable();
            let context = Context::from_user_mode(true);
            bindings::local_irq_enable();
            let imbalance = context.restore();
            let is_off = bindings::irqs_disabled();
            bindings::local_irq_enable();
            (imbalance, is_off)
        };
        assert!(imbalance.interrupts_enabled);
        assert!(is_off);
    }

    #[test]
    fn rcu_sections_are_left() {
        let expected = Imbalance {
            rcu: true,
            ..Imbalance::default()
        };
        // SAFETY: `restored_after()` leaves the section.
        let imbalance = restored_after(|| unsafe { bindings::rcu_read_lock() });
        assert_eq!(imbalance, expected);
    }

    #[test]
    fn preemption_is_enabled_again() {
        let expected = Imbalance {
            preemption: true,
            ..Imbalance::default()
        };
        // SAFETY: `restored_after()` enables it.
        let imbalance = restored_after(|| unsafe { bindings::preempt_disable_notrace() });
        assert_eq!(imbalance, expected);
    }

    /// Once, the restoring of such a count did not end.
    #[test]
    fn a_count_below_zero_is_set() {
        let expected = Imbalance {
            preemption: true,
            ..Imbalance::default()
        };
        // SAFETY: Interrupts are disabled while the count is wrong, and enabled after that.
        let (was_kept, imbalance, is_kept) = unsafe {
            bindings::local_irq_disable();
            let context = Context::from_user_mode(true);
            bindings::preempt_enable_notrace();
            let was_kept = context.is_kept();
            let imbalance = context.restore();
            let is_kept = context.is_kept();
            bindings::local_irq_enable();
            (was_kept, imbalance, is_kept)
        };
        assert!(!was_kept);
        assert!(is_kept);
        assert_eq!(imbalance, expected);
    }

    #[test]
    fn page_faults_are_enabled_again() {
        let expected = Imbalance {
            page_faults: true,
            ..Imbalance::default()
        };
        let imbalance = restored_after(|| {
            // SAFETY: Only the current thread accesses the count.
            unsafe { (*Task::current_raw()).pagefault_disabled += 1 }
        });
        assert_eq!(imbalance, expected);
    }

    #[test]
    fn an_imbalance_is_put_into_words() -> Result {
        let both = Imbalance {
            interrupts_disabled: true,
            migration: true,
            ..Imbalance::default()
        };
        let text = CString::try_from_fmt(fmt!("{both}"))?;
        let expected = c"left interrupts disabled, left migration disabled";
        assert_eq!(text.to_bytes(), expected.to_bytes());
        Ok(())
    }
}
