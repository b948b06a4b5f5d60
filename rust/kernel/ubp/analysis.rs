// SPDX-License-Identifier: GPL-2.0

//! Analysis of instructions.

use crate::{
    bindings,
    insn::{
        Mode,
        Plan,
        MAX_INSN_SIZE, //
    },
    prelude::*,
    str::CStr, //
};

/// Returns `None` for an instruction that is refused.
pub(super) fn plan_from_raw(plan: bindings::ubp_plan) -> Option<Plan> {
    match plan {
        bindings::ubp_plan_UBP_EMULATE => Some(Plan::Emulate),
        bindings::ubp_plan_UBP_BOOST => Some(Plan::Boost),
        bindings::ubp_plan_UBP_STEP => Some(Plan::Step),
        _ => None,
    }
}

/// The reason why an instruction cannot have a breakpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    reason: &'static CStr,
    errno: Error,
}

impl Refused {
    /// Returns a description of one line for users.
    pub fn reason(&self) -> &'static CStr {
        self.reason
    }

    /// Returns the error: `EPERM` if the instruction cannot have a breakpoint, `EEXIST` if it is a
    /// breakpoint, `EFAULT` if there are not enough bytes.
    pub fn errno(&self) -> Error {
        self.errno
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.errno
    }
}

/// The result of [`analyze`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Analysis {
    length: Option<usize>,
    plan: Result<Plan, Refused>,
}

impl Analysis {
    /// Returns the length of the instruction in bytes, if it is known. The length of a refused
    /// instruction may be known as well.
    pub fn length(&self) -> Option<usize> {
        self.length
    }

    /// Returns how the instruction would be executed.
    pub fn plan(&self) -> Result<Plan, Refused> {
        self.plan
    }
}

/// Analyses the instruction at the beginning of `bytes` as if a process had it at `at`.
///
/// More than [`MAX_INSN_SIZE`] bytes are not needed. The bytes must not contain breakpoints.
///
/// Context: any.
pub fn analyze(bytes: &[u8], at: usize, mode: Mode) -> Analysis {
    let mut insn = bindings::ubp_insn::default();
    let len = bytes.len().min(MAX_INSN_SIZE);
    // SAFETY: `bytes` is valid for reads of `len` bytes, and `insn` for a write.
    let errno = unsafe {
        bindings::ubp_analyze_insn(bytes.as_ptr(), len, at, mode == Mode::Bits64, &mut insn)
    };
    Analysis {
        length: (insn.len != 0).then_some(insn.len as usize),
        plan: plan_from_raw(insn.plan).ok_or_else(|| Refused {
            // SAFETY: If the plan is `UBP_REFUSED`, `refusal` points to a static string.
            reason: unsafe { CStr::from_char_ptr(insn.refusal) },
            errno: Error::from_errno(errno),
        }),
    }
}
