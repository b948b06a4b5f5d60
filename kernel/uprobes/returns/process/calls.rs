// SPDX-License-Identifier: GPL-2.0

//! Calls that have ended: by a return to their return address, in another way, or with their text.

use super::ReturnProbes;
use crate::{
    returns::{
        function::Called,
        instance::Instance, //
    },
    stack::peek_word,
};

use kernel::{
    insn::Mode,
    sync::tasks_trace::{
        self,
        Guard, //
    },
};

/// Maximum number of bytes of arguments that a function may pop for its return to be detected.
const MAX_POPPED: usize = 512;

impl ReturnProbes {
    /// Removes functions and return breakpoints in text that has been unmapped.
    pub(super) fn remove_gone(&self) {
        {
            let _adding = self.adding.lock();
            let guard = tasks_trace::read_lock();
            for (at, function) in self.functions.range(0..=usize::MAX, &guard) {
                if function.is_gone() {
                    self.functions.remove(at);
                }
            }
        }
        self.breakpoints.remove_gone_insns();
    }

    /// Counts a miss for a dead instance, if the call of a new one at the same location may belong
    /// to the same chain of tail calls.
    ///
    /// If the function of `dead` is followed and does not jump to its first instruction, the thread
    /// has left it in another way than by a return, which is no miss. Otherwise the function may
    /// have led by tail calls, perhaps in a circle, to the function that the thread enters now. Its
    /// return is a miss, because it cannot be distinguished from the return of the new call.
    #[cold]
    pub(super) fn count_dropped(&self, dead: &Instance, new: &Instance, guard: &Guard) {
        if dead.return_address != new.return_address {
            return;
        }
        let Some(function) = self.functions.get(dead.function, guard) else {
            return;
        };
        let is_missed = match function.is_followed() {
            true => function.may_reenter,
            false => dead.caller.is_alive(),
        };
        if is_missed {
            self.miss((function, dead.caller.generation()), guard);
        }
    }

    /// Removes the instance of the call from which the current thread has returned to `address`,
    /// and returns its function and its location. The stack pointer is just above `top`.
    pub(super) fn pop_returned<'a>(
        &'a self,
        mode: Mode,
        top: usize,
        address: usize,
        guard: &'a Guard,
    ) -> Option<(Called<'a>, usize)> {
        let called = |instance: &Instance| {
            let function = self.functions.get(instance.function, guard)?;
            // If the thread that made the call has ended, another thread may have its stack by now.
            let is_here = instance.return_address == address
                && !function.is_followed()
                && instance.caller.is_alive();
            is_here.then_some((&**function, instance.caller.generation()))
        };
        let pop = |location| {
            let popped = self.instances.pop(location, guard, called)?;
            Some((popped.found, location))
        };
        pop(top).or_else(|| {
            // A function that pops its arguments leaves the stack pointer further up. Functions of
            // 32-bit code that return a structure do so, as does code of some JIT compilers. The
            // return address is still at its location, because the thread has not pushed anything.
            let lowest = top.saturating_sub(MAX_POPPED);
            let is_here = |instance: &Instance| called(instance).is_some();
            let location = self.instances.highest(top, lowest, guard, is_here)?;
            if peek_word(location, mode) != Ok(address) {
                return None;
            }
            pop(location)
        })
    }
}
