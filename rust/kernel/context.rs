// SPDX-License-Identifier: GPL-2.0

//! What the current context may do, and putting that right after code that has changed it.
//!
//! Who calls code of others, and must go on afterwards whatever that has done, makes a [`Context`]
//! before, sees whether it [is kept](Context::is_kept) after that, and if not,
//! [restores](Context::restore) it.
//!
//! C headers: [`include/linux/preempt.h`](srctree/include/linux/preempt.h),
//! [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

use crate::{
    bindings,
    fmt,
    task::Task,
    types::NotThreadSafe, //
};

use core::cell::Cell;

/// Interrupts, preemption and RCU of the current thread, as they are to be.
pub struct Context {
    state: Cell<State>,
    _not_send: NotThreadSafe,
}

#[derive(Clone, Copy)]
struct State {
    interrupts_off: bool,
    preempt_count: u32,
    rcu_depth: i32,
    /// How often the thread had slept, when this was made or restored with interrupts disabled.
    sleeps: usize,
}

/// What [`Context::restore`] has found to be different.
///
/// Displayed, it is a list of what the code has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imbalance {
    /// Interrupts, enabled or disabled.
    pub interrupts: bool,
    /// Preemption, or bottom halves, enabled or disabled.
    pub preemption: bool,
    /// RCU read-side critical sections, begun or ended.
    pub rcu: bool,
    /// The thread has slept although interrupts were disabled.
    pub slept: bool,
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.slept, "slept with interrupts disabled"),
            (self.interrupts, "left interrupts unbalanced"),
            (self.preemption, "left preemption unbalanced"),
            (self.rcu, "left RCU unbalanced"),
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

/// How often the current thread has slept.
#[inline]
fn sleeps() -> usize {
    // SAFETY: A counter of the current thread, which nobody writes to while it executes.
    unsafe { (*Task::current_raw()).nvcsw }
}

impl State {
    #[inline]
    fn now() -> Self {
        // SAFETY: These may be asked at any time.
        unsafe {
            Self {
                interrupts_off: bindings::irqs_disabled(),
                preempt_count: bindings::preempt_count(),
                rcu_depth: bindings::rcu_preempt_depth(),
                sleeps: sleeps(),
            }
        }
    }

    #[inline]
    fn is(self, now: Self) -> bool {
        now.interrupts_off == self.interrupts_off
            && now.preempt_count == self.preempt_count
            && now.rcu_depth == self.rcu_depth
            && !self.has_slept(now)
    }

    /// Whether the thread has slept where it must not.
    #[inline]
    fn has_slept(self, now: Self) -> bool {
        self.interrupts_off && now.sleeps != self.sleeps
    }

    fn difference(self, now: Self) -> Imbalance {
        Imbalance {
            interrupts: now.interrupts_off != self.interrupts_off,
            preemption: now.preempt_count != self.preempt_count,
            rcu: now.rcu_depth != self.rcu_depth,
            slept: self.has_slept(now),
        }
    }
}

impl Context {
    /// What the context is of who has come from user mode, and has disabled nothing but interrupts,
    /// if that.
    // So it need not be looked at.
    #[inline]
    pub fn from_user_mode(interrupts_off: bool) -> Self {
        let state = State {
            interrupts_off,
            preempt_count: 0,
            rcu_depth: 0,
            sleeps: if interrupts_off { sleeps() } else { 0 },
        };
        Self {
            state: Cell::new(state),
            _not_send: NotThreadSafe,
        }
    }

    /// Whether the context is what it was.
    #[inline(always)]
    pub fn is_kept(&self) -> bool {
        self.state.get().is(State::now())
    }

    /// Makes the context what it was. Returns what was different.
    ///
    /// Locks that were taken and not released stay so: nothing says which they are.
    #[inline]
    pub fn restore(&self) -> Imbalance {
        let state = self.state.get();
        let imbalance = mend(
            state.interrupts_off,
            state.preempt_count,
            state.rcu_depth,
            state.sleeps,
        );
        // What comes after this has not slept.
        self.state.set(State {
            sleeps: sleeps(),
            ..state
        });
        imbalance
    }
}

/// Makes the state of the current thread this one.
// Single values, so that who calls this, mostly does not, and knows them, need not store them.
#[cold]
#[inline(never)]
fn mend(interrupts_off: bool, preempt_count: u32, rcu_depth: i32, sleeps: usize) -> Imbalance {
    let now = State::now();
    let state = State {
        interrupts_off,
        preempt_count,
        rcu_depth,
        sleeps,
    };
    for _ in rcu_depth..now.rcu_depth {
        // SAFETY: Somebody has begun a section, and does not end it.
        unsafe { bindings::rcu_read_unlock() };
    }
    for _ in now.rcu_depth..rcu_depth {
        // SAFETY: There are no requirements on the caller.
        unsafe { bindings::rcu_read_lock() };
    }
    mend_bottom_halves(preempt_count);
    // SAFETY: With this, interrupts and preemption are again as whoever is going on expects.
    unsafe {
        bindings::preempt_count_set(preempt_count);
        match (interrupts_off, bindings::irqs_disabled()) {
            (true, false) => bindings::local_irq_disable(),
            (false, true) => bindings::local_irq_enable(),
            (true, true) | (false, false) => (),
        }
    }
    state.difference(now)
}

/// Enabling bottom halves executes those that are waiting: the count alone would not do.
fn mend_bottom_halves(preempt_count: u32) {
    const MASK: u32 = bindings::SOFTIRQ_MASK;
    // SAFETY: May be asked at any time.
    let disabled = || unsafe { bindings::preempt_count() } & MASK;
    while disabled() > preempt_count & MASK {
        // SAFETY: Somebody has disabled them, and does not enable them; which needs interrupts
        // enabled, as they were when this was to be called, or that somebody's callee has them.
        unsafe {
            if bindings::irqs_disabled() {
                bindings::local_irq_enable();
            }
            bindings::local_bh_enable();
        }
    }
}

#[cfg(CONFIG_RUST_TASKS_TRACE_KUNIT_TEST)]
#[macros::kunit_tests(rust_context)]
mod tests {
    use super::*;
    use crate::{
        prelude::*,
        str::CString, //
    };

    #[test]
    fn nothing_is_different() {
        let before = Context::from_user_mode(false);
        assert!(before.is_kept());
        assert_eq!(before.restore(), Imbalance::default());
    }

    #[test]
    fn interrupts_are_enabled_again() {
        let before = Context::from_user_mode(false);
        // SAFETY: They are enabled below.
        unsafe { bindings::local_irq_disable() };
        assert!(!before.is_kept());
        let imbalance = before.restore();
        assert!(imbalance.interrupts && !imbalance.preemption && !imbalance.rcu);
        assert!(before.is_kept());
    }

    #[test]
    fn interrupts_are_disabled_again() {
        // SAFETY: Interrupts are enabled again at the end of the block.
        let (imbalance, is_off) = unsafe {
            bindings::local_irq_disable();
            let before = Context::from_user_mode(true);
            bindings::local_irq_enable();
            let imbalance = before.restore();
            let is_off = bindings::irqs_disabled();
            bindings::local_irq_enable();
            (imbalance, is_off)
        };
        assert!(imbalance.interrupts);
        assert!(is_off);
    }

    #[test]
    fn rcu_sections_are_ended() {
        let before = Context::from_user_mode(false);
        // SAFETY: There are no requirements on the caller.
        unsafe {
            bindings::rcu_read_lock();
            bindings::rcu_read_lock();
        }
        assert!(before.restore().rcu);
        assert!(before.is_kept());
    }

    #[test]
    fn preemption_is_enabled_again() {
        let before = Context::from_user_mode(false);
        // SAFETY: Enabled below.
        unsafe { bindings::preempt_disable_notrace() };
        assert!(before.restore().preemption);
        assert!(before.is_kept());
    }

    #[test]
    fn an_imbalance_is_put_into_words() -> Result {
        let both = Imbalance {
            interrupts: true,
            slept: true,
            ..Imbalance::default()
        };
        let text = CString::try_from_fmt(fmt!("{both}"))?;
        let expected = c"slept with interrupts disabled, left interrupts unbalanced";
        assert_eq!(text.to_bytes(), expected.to_bytes());
        Ok(())
    }
}
