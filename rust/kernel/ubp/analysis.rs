// SPDX-License-Identifier: GPL-2.0

//! What is made of an instruction.

use crate::{
    bindings,
    insn::{
        Mode,
        MAX_INSN_SIZE, //
    },
    prelude::*,
    str::CStr, //
};

/// How an instruction that a breakpoint displaces is executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// By the kernel, or in a slot, from where the thread goes on by itself, whichever is faster;
    /// if that is not possible at a hit, as when memory is not accessible, by a single-step in a
    /// slot.
    Emulate,
    /// In a slot, from where the thread goes on by itself.
    Boost,
    /// In a slot, by a single-step, which costs a second trap.
    Step,
}

impl Plan {
    /// Returns nothing for an instruction that is refused.
    pub(super) fn from_raw(plan: bindings::ubp_plan) -> Option<Self> {
        match plan {
            bindings::ubp_plan_UBP_EMULATE => Some(Self::Emulate),
            bindings::ubp_plan_UBP_BOOST => Some(Self::Boost),
            bindings::ubp_plan_UBP_STEP => Some(Self::Step),
            _ => None,
        }
    }
}

/// Why an instruction cannot have a breakpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    reason: &'static CStr,
    errno: Error,
}

impl Refused {
    /// One line for people.
    pub fn reason(&self) -> &'static CStr {
        self.reason
    }

    /// `EPERM`: it cannot. `EEXIST`: it is a breakpoint. `EFAULT`: there are not enough bytes.
    pub fn errno(&self) -> Error {
        self.errno
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.errno
    }
}

/// What is made of an instruction, says [`analyze`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Analysis {
    length: Option<usize>,
    plan: Result<Plan, Refused>,
}

impl Analysis {
    /// Its length in bytes, if that is known. It may be, even if the instruction is refused.
    pub fn length(&self) -> Option<usize> {
        self.length
    }

    /// How it would be executed.
    pub fn plan(&self) -> Result<Plan, Refused> {
        self.plan
    }
}

/// Says what would be made of the instruction with which `bytes` begin, if a process had it at
/// `at`.
///
/// More than [`MAX_INSN_SIZE`] bytes are not needed. They must be without breakpoints.
///
/// Context: any.
pub fn analyze(bytes: &[u8], at: usize, mode: Mode) -> Analysis {
    let mut insn = bindings::ubp_insn::default();
    let len = bytes.len().min(MAX_INSN_SIZE);
    // SAFETY: `bytes` is valid for reads of `len`, and `insn` for a write.
    let errno = unsafe {
        bindings::ubp_analyze_insn(bytes.as_ptr(), len, at, mode == Mode::Bits64, &mut insn)
    };
    Analysis {
        length: (insn.len != 0).then_some(insn.len as usize),
        plan: Plan::from_raw(insn.plan).ok_or_else(|| Refused {
            // SAFETY: With a refusal this is a string that is there forever.
            reason: unsafe { CStr::from_char_ptr(insn.refusal) },
            errno: Error::from_errno(errno),
        }),
    }
}
