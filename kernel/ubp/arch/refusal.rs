// SPDX-License-Identifier: GPL-2.0

//! Blacklist: reasons for which an instruction cannot be probed.

use kernel::prelude::*;

/// The reason why an instruction cannot be probed.
///
/// An instruction is refused if it cannot be executed at another address, or not be stepped, with
/// exactly the effect that it has in its place. It is also refused if user mode may not execute it,
/// because a breakpoint on it can only be a mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The instruction is a foreign breakpoint.
    Breakpoint,
    /// The mapping ends before the instruction does.
    CutOff,
    /// The bytes are no instruction, or the kernel's decoder does not know the instruction.
    Undecodable,
    /// An undefined instruction, which a hypervisor may take as a request to emulate the next one.
    Hypervisor,
    /// User mode may not execute it.
    Privileged,
    /// A system call: the kernel would see, and return to, an address in a slot.
    SystemCall,
    /// A software interrupt, or a return from one.
    Interrupt,
    /// A jump, call or return to another code segment.
    FarTransfer,
    /// A relative jump or call with a 16-bit operand: processors differ in its effect in 64-bit
    /// code.
    ShortTransfer,
    /// A relative jump or call that leads out of user space.
    TargetOutOfRange,
    /// Loads the stack segment, which suppresses the trap after the instruction.
    StackSegment,
    /// Transactional memory: a trap aborts every transaction.
    Transaction,
    /// User interrupts.
    UserInterrupt,
    /// An instruction that the kernel may emulate (UMIP, `iopl(3)`). The kernel then sets the
    /// instruction pointer behind it without a trap.
    KernelEmulated,
    /// Enters or leaves an enclave.
    Enclave,
}

impl Refusal {
    /// Returns a description of one line for users.
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

    /// Returns the error for the caller that requested the probe.
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
