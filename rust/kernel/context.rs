// SPDX-License-Identifier: GPL-2.0

//! Checks and restoration of a thread's context around foreign code.
//!
//! A caller of code that it does not control, such as a handler of a module, creates a [`Context`]
//! before the call. If the context [is not kept](Context::is_kept) after the call, the caller
//! [restores](Context::restore) it.
//!
//! As after initcalls and timers, the counts are set to the values that they must have. A wrong
//! count does not show which operations of the foreign code changed it, so that they cannot be
//! undone one by one.
//!
//! C headers: [`include/linux/preempt.h`](srctree/include/linux/preempt.h),
//! [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

use crate::{
    bindings,
    fmt,
    types::NotThreadSafe, //
};

/// The context of the current thread, which has come from user mode and has disabled at most
/// interrupts.
pub struct Context {
    interrupts_off: bool,
    _not_send: NotThreadSafe,
}

/// The differences that [`Context::restore`] has found.
///
/// Displays as a list of the foreign code's faults.
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

/// Counts of the current thread that are zero when it comes from user mode.
struct ContextCounts {
    preemption: u32,
    rcu: i32,
    tasks_trace: i32,
    page_faults: i32,
    migration: u32,
}

impl ContextCounts {
    #[inline(always)]
    fn now() -> Self {
        // SAFETY: These only read values of the current thread and of its CPU.
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

    // One comparison for all counts, because each hit makes it.
    #[inline(always)]
    fn are_zero(&self) -> bool {
        // CAST: Only whether a bit is set matters.
        let signed = (self.rcu | self.tasks_trace | self.page_faults) as u32;
        self.preemption | self.migration | signed == 0
    }
}

impl Context {
    /// Returns the context of a thread that has come from user mode, and has disabled only
    /// interrupts, if `interrupts_off`.
    // Reads nothing, because the whole context is known.
    #[inline]
    pub fn from_user_mode(interrupts_off: bool) -> Self {
        Self {
            interrupts_off,
            _not_send: NotThreadSafe,
        }
    }

    /// Returns whether the context is unchanged.
    ///
    /// A thread that has slept returns with interrupts enabled, so that this also detects sleeping
    /// with interrupts disabled.
    #[inline(always)]
    pub fn is_kept(&self) -> bool {
        // SAFETY: The function only reads a flag of the current CPU.
        let interrupts_off = unsafe { bindings::irqs_disabled() };
        ContextCounts::now().are_zero() && interrupts_off == self.interrupts_off
    }

    /// Restores the context. Returns the differences.
    ///
    /// Locks that were taken and not released remain taken, because no record of them exists.
    /// Softirqs that became pending while bottom halves were disabled run after the next interrupt.
    #[inline]
    pub fn restore(&self) -> Imbalance {
        restore(self.interrupts_off)
    }
}

// Takes the field by value, so that callers, which rarely get here, need not store a context.
#[cold]
#[inline(never)]
fn restore(interrupts_off: bool) -> Imbalance {
    let now = ContextCounts::now();
    // SAFETY: The function only reads a flag of the current CPU.
    let were_off = unsafe { bindings::irqs_disabled() };
    // SAFETY: A `Context` exists only in a thread that came from user mode, and so was in no
    // section and had disabled nothing. Interrupts are disabled while the counts are set, because
    // interrupt handlers use them.
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

    /// Calls `change` with interrupts enabled, restores the context of the current thread, and
    /// returns the differences.
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
    fn no_difference() {
        let context = Context::from_user_mode(false);
        assert!(context.is_kept());
        assert_eq!(context.restore(), Imbalance::default());
    }

    #[test]
    fn restores_enabled_interrupts() {
        let expected = Imbalance {
            interrupts_disabled: true,
            ..Imbalance::default()
        };
        // SAFETY: `restored_after()` enables interrupts.
        let imbalance = restored_after(|| unsafe { bindings::local_irq_disable() });
        assert_eq!(imbalance, expected);
    }

    #[test]
    fn restores_disabled_interrupts() {
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
    fn leaves_rcu_sections() {
        let expected = Imbalance {
            rcu: true,
            ..Imbalance::default()
        };
        // SAFETY: `restored_after()` leaves the section.
        let imbalance = restored_after(|| unsafe { bindings::rcu_read_lock() });
        assert_eq!(imbalance, expected);
    }

    #[test]
    fn restores_preemption() {
        let expected = Imbalance {
            preemption: true,
            ..Imbalance::default()
        };
        // SAFETY: `restored_after()` enables preemption.
        let imbalance = restored_after(|| unsafe { bindings::preempt_disable_notrace() });
        assert_eq!(imbalance, expected);
    }

    /// Regression test: the restoration of such a count did not end.
    #[test]
    fn restores_count_below_zero() {
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
    fn restores_page_faults() {
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
    fn describes_imbalance() -> Result {
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
