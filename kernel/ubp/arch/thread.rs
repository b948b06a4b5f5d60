// SPDX-License-Identifier: GPL-2.0

//! State of the thread that hit a breakpoint, except for its saved registers.

use kernel::{
    types::NotThreadSafe,
    uaccess::UserPtr,
    user_thread, //
};

/// A failed access to user memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The address of the access.
    pub addr: usize,
    /// Whether the access was a write.
    pub write: bool,
}

/// The number of accessed bytes.
///
/// The values are the binary logarithms of the number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Width {
    /// One byte.
    W8,
    /// Two bytes.
    W16,
    /// Four bytes.
    W32,
    /// Eight bytes.
    W64,
}

impl Width {
    /// Returns the number of bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        1 << self as u8
    }

    /// Returns the number of bits.
    #[inline]
    pub const fn bits(self) -> usize {
        8 << self as u8
    }

    /// Truncates a value to this width.
    #[inline]
    pub const fn truncate(self, value: usize) -> usize {
        const MASKS: [usize; 4] = [
            u8::MAX as usize,
            u16::MAX as usize,
            u32::MAX as usize,
            u64::MAX as usize,
        ];
        value & MASKS[self as usize]
    }

    /// Sign-extends a value of this width.
    #[inline]
    pub const fn sign_extend(self, value: usize) -> usize {
        match self {
            Self::W8 => value as i8 as usize,
            Self::W16 => value as i16 as usize,
            Self::W32 => value as i32 as usize,
            Self::W64 => value,
        }
    }
}

/// The access to a thread, besides its registers, that resuming an instruction needs.
pub trait ThreadAccess {
    /// Reads from user memory in a single access.
    fn load(&mut self, addr: usize, width: Width) -> Result<usize, Fault>;

    /// Writes to user memory in a single access.
    fn store(&mut self, addr: usize, width: Width, value: usize) -> Result<(), Fault>;

    /// Returns whether calls and returns also use a shadow stack.
    fn has_shadow_stack(&self) -> bool;

    /// Replaces the return address on the top of the shadow stack. May sleep.
    fn update_shadow_stack(&mut self, return_addr: usize) -> Result<(), Fault>;

    /// Returns whether a debugger may be watching memory accesses. The debugger would not detect
    /// accesses by the kernel.
    fn is_watched(&self) -> bool;

    /// Returns whether the trap flag traps after taken branches only.
    fn block_step(&self) -> bool;

    /// Makes the trap flag trap after taken branches only, or after every instruction.
    fn set_block_step(&mut self, on: bool);
}

/// The current thread. With `MAY_FAULT`, accesses to user memory sleep until the memory is present;
/// otherwise they fail if they would fault.
///
/// Methods that may sleep must be called in task context, with interrupts enabled.
pub struct CurrentThread<const MAY_FAULT: bool = true>(NotThreadSafe);

impl CurrentThread {
    /// Gives access to the current thread.
    #[inline]
    pub fn new() -> Self {
        Self(NotThreadSafe)
    }
}

impl CurrentThread<false> {
    /// Gives access to the current thread, without faults.
    #[inline]
    pub fn without_faults() -> Self {
        Self(NotThreadSafe)
    }
}

impl Default for CurrentThread {
    fn default() -> Self {
        Self::new()
    }
}

impl<const MAY_FAULT: bool> ThreadAccess for CurrentThread<MAY_FAULT> {
    #[inline]
    fn load(&mut self, addr: usize, width: Width) -> Result<usize, Fault> {
        let ptr = UserPtr::from_addr(addr);
        let value = match width {
            Width::W8 if !MAY_FAULT => user_thread::try_read_u8(ptr).map(usize::from),
            Width::W16 if !MAY_FAULT => user_thread::try_read_u16(ptr).map(usize::from),
            Width::W32 if !MAY_FAULT => user_thread::try_read_u32(ptr).map(|v| v as usize),
            Width::W64 if !MAY_FAULT => user_thread::try_read_u64(ptr).map(|v| v as usize),
            Width::W8 => user_thread::read_u8(ptr).map(usize::from),
            Width::W16 => user_thread::read_u16(ptr).map(usize::from),
            Width::W32 => user_thread::read_u32(ptr).map(|v| v as usize),
            Width::W64 => user_thread::read_u64(ptr).map(|v| v as usize),
        };
        value.map_err(|_| Fault { addr, write: false })
    }

    #[inline]
    fn store(&mut self, addr: usize, width: Width, value: usize) -> Result<(), Fault> {
        let ptr = UserPtr::from_addr(addr);
        let result = match width {
            Width::W8 if !MAY_FAULT => user_thread::try_write_u8(ptr, value as u8),
            Width::W16 if !MAY_FAULT => user_thread::try_write_u16(ptr, value as u16),
            Width::W32 if !MAY_FAULT => user_thread::try_write_u32(ptr, value as u32),
            Width::W64 if !MAY_FAULT => user_thread::try_write_u64(ptr, value as u64),
            Width::W8 => user_thread::write_u8(ptr, value as u8),
            Width::W16 => user_thread::write_u16(ptr, value as u16),
            Width::W32 => user_thread::write_u32(ptr, value as u32),
            Width::W64 => user_thread::write_u64(ptr, value as u64),
        };
        result.map_err(|_| Fault { addr, write: true })
    }

    #[inline]
    fn has_shadow_stack(&self) -> bool {
        user_thread::has_shadow_stack()
    }

    #[inline]
    fn update_shadow_stack(&mut self, return_addr: usize) -> Result<(), Fault> {
        user_thread::update_shadow_stack(return_addr).map_err(|_| Fault {
            addr: return_addr,
            write: true,
        })
    }

    #[inline]
    fn is_watched(&self) -> bool {
        user_thread::has_hw_breakpoints()
    }

    #[inline]
    fn block_step(&self) -> bool {
        user_thread::block_step()
    }

    #[inline]
    fn set_block_step(&mut self, on: bool) {
        user_thread::set_block_step(on)
    }
}
