// SPDX-License-Identifier: GPL-2.0

//! Why an instruction cannot be probed.

use kernel::prelude::*;

/// The reason why an instruction cannot be probed.
///
/// An instruction is refused if it could not be executed from elsewhere, or not be stepped, with
/// exactly the effect that it has in its place; and if user mode may not execute it anyway, so
/// that a breakpoint on it can only be a mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is a breakpoint that is not ours.
    Breakpoint,
    /// The mapping ends before the instruction does.
    CutOff,
    /// The bytes are not an instruction, or one that the kernel's decoder does not know.
    Undecodable,
    /// Undefined, unless a hypervisor takes it for a request to emulate what follows.
    Hypervisor,
    /// User mode may not execute it.
    Privileged,
    /// A system call: the kernel would see, and return to, an address in a slot.
    SystemCall,
    /// A software interrupt, or a return from one.
    Interrupt,
    /// A jump, call or return to another code segment.
    FarTransfer,
    /// A relative jump, or a call, by 16 bits: in 64-bit code, processors differ in what they do.
    ShortTransfer,
    /// A relative jump or call that leads out of user space.
    TargetOutOfRange,
    /// Loads the stack segment, which suppresses the trap after the instruction.
    StackSegment,
    /// Transactional memory: a trap aborts every transaction.
    Transaction,
    /// User interrupts.
    UserInterrupt,
    /// The kernel may emulate it itself, and then sets the instruction pointer to behind it without
    /// a trap (UMIP, `iopl(3)`).
    KernelEmulated,
    /// Enters or leaves an enclave.
    Enclave,
}

impl Refusal {
    /// One line for people.
    pub const fn describe(self) -> &'static CStr {
        match self {
            Self::Breakpoint => c"There is another breakpoint",
            Self::CutOff => c"Instruction is cut off by the end of its mapping",
            Self::Undecodable => c"Not a known instruction",
            Self::Hypervisor => c"Request to a hypervisor",
            Self::Privileged => c"Privileged instruction",
            Self::SystemCall => c"System call instruction",
            Self::Interrupt => c"Software interrupt instruction",
            Self::FarTransfer => c"Far control transfer",
            Self::ShortTransfer => c"Control transfer with 16-bit operand",
            Self::TargetOutOfRange => c"Branch leads out of user space",
            Self::StackSegment => c"Instruction loads the stack segment",
            Self::Transaction => c"Transactional memory instruction",
            Self::UserInterrupt => c"User interrupt instruction",
            Self::KernelEmulated => c"Instruction that the kernel may emulate",
            Self::Enclave => c"Enclave instruction",
        }
    }

    /// The error for whoever asked for the probe.
    pub const fn errno(self) -> Error {
        match self {
            Self::Breakpoint => EEXIST,
            Self::CutOff => EFAULT,
            _ => EPERM,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.errno()
    }
}
