// SPDX-License-Identifier: GPL-2.0

//! How the arguments of a probe are fetched, which is decided when they have been parsed.
//!
//! The kernel's own interpreter of fetch instructions can do all that lines can ask for. Most ask
//! for a few registers, for which an interpreter is large, and which are there in any context.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use crate::{
    bindings,
    ffi::{
        c_uint,
        c_ulong, //
    },
    prelude::*,
    ptregs::PtRegs, //
};

/// How the arguments are fetched.
// Not an enum, as each reading of the list would look at that again.
pub(super) struct Plan {
    /// Whether from the registers, and from the line itself, to where they are to be; otherwise by
    /// the interpreter, to a buffer: it may read memory, which may sleep.
    pub(super) is_direct: bool,
    /// All arguments, if so; otherwise empty.
    pub(super) stores: KVec<Store>,
    /// Bytes that these take.
    pub(super) len: usize,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// What is at an offset in the saved registers.
    Register(c_uint),
    /// What a function returns.
    Returned,
    StackPointer,
    Immediate(c_ulong),
}

/// How many bytes of a value are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    One,
    Two,
    Four,
    Eight,
}

/// An argument that needs no memory to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Store {
    value: Value,
    width: Width,
    /// Where it goes, counted from the first argument.
    offset: usize,
}

impl Plan {
    pub(super) const INTERPRETED: Self = Self {
        is_direct: false,
        stores: KVec::new(),
        len: 0,
    };

    /// Finds out how arguments are to be fetched that take `size` bytes.
    ///
    /// # Safety
    ///
    /// The arguments must be parsed.
    pub(super) unsafe fn of(args: &[bindings::probe_arg], size: usize) -> Result<Self> {
        let mut stores = KVec::with_capacity(args.len(), GFP_KERNEL)?;
        let mut filled = 0;

        for arg in args {
            // SAFETY: By the safety requirements.
            let Some(store) = (unsafe { Store::of(arg) }) else {
                return Ok(Self::INTERPRETED);
            };
            // In a trace buffer, what is not written to is what was there before.
            if store.offset != filled {
                return Ok(Self::INTERPRETED);
            }
            filled += store.width.bytes();
            stores.push(store, GFP_KERNEL)?;
        }
        if filled != size {
            return Ok(Self::INTERPRETED);
        }
        Ok(Self {
            is_direct: true,
            stores,
            len: size,
        })
    }
}

impl Store {
    /// What an argument asks for, if it is so simple.
    ///
    /// # Safety
    ///
    /// The argument must be parsed.
    unsafe fn of(arg: &bindings::probe_arg) -> Option<Self> {
        // SAFETY: By the safety requirements.
        let [load, store] = (unsafe { instructions(arg) }) else {
            return None;
        };

        // SAFETY: These are the fields that the parser sets, by what the instruction is.
        let value = unsafe {
            match load.op {
                bindings::fetch_op_FETCH_OP_REG => Value::Register(load.__bindgen_anon_1.param),
                bindings::fetch_op_FETCH_OP_RETVAL => Value::Returned,
                bindings::fetch_op_FETCH_OP_STACKP => Value::StackPointer,
                bindings::fetch_op_FETCH_OP_IMM => {
                    Value::Immediate(load.__bindgen_anon_1.immediate)
                }
                _ => return None,
            }
        };
        if store.op != bindings::fetch_op_FETCH_OP_ST_RAW {
            return None;
        }
        Some(Self {
            value,
            // SAFETY: As above.
            width: Width::of(unsafe { store.__bindgen_anon_1.__bindgen_anon_1.size })?,
            offset: arg.offset as usize,
        })
    }

    /// Stores the argument, where `args` is where the first one goes.
    ///
    /// # Safety
    ///
    /// There must be as much room as the arguments take together.
    #[inline]
    pub(super) unsafe fn store(&self, args: *mut u8, regs: &PtRegs) {
        let regs = regs.as_ptr();
        // SAFETY: The registers are valid.
        let value = unsafe {
            match self.value {
                Value::Register(offset) => bindings::regs_get_register(regs, offset),
                Value::Returned => bindings::regs_return_value(regs),
                Value::StackPointer => bindings::user_stack_pointer(regs),
                Value::Immediate(value) => value,
            }
        };

        // SAFETY: By the safety requirements. Arguments have no alignment.
        // CAST: It is the low bytes that are asked for.
        unsafe {
            let dest = args.add(self.offset);

            match self.width {
                Width::One => dest.write(value as u8),
                Width::Two => dest.cast::<u16>().write_unaligned(value as u16),
                Width::Four => dest.cast::<u32>().write_unaligned(value as u32),
                Width::Eight => dest.cast::<u64>().write_unaligned(value as u64),
            }
        }
    }
}

impl Width {
    fn of(bytes: c_uint) -> Option<Self> {
        match bytes {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            4 => Some(Self::Four),
            8 => Some(Self::Eight),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// The instructions that fetch an argument, without the one that says that this is the end.
///
/// # Safety
///
/// The argument must be parsed.
pub(super) unsafe fn instructions(arg: &bindings::probe_arg) -> &[bindings::fetch_insn] {
    let mut len = 0;

    // SAFETY: By the safety requirements there are instructions, up to the end.
    unsafe {
        while (*arg.code.add(len)).op != bindings::fetch_op_FETCH_OP_END {
            len += 1;
        }
        core::slice::from_raw_parts(arg.code, len)
    }
}
