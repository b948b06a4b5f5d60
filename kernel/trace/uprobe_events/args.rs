// SPDX-License-Identifier: GPL-2.0

//! A `struct trace_probe` and its arguments: parsing and fetching.
//!
//! The kernel's interpreter of fetch instructions can fetch everything that a line can ask for.
//! Most lines ask for a few registers only, which are available in any context and for which an
//! interpreter is needlessly large. For these a plan is made once, after parsing.
//!
//! C headers: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h) and
//! [`kernel/trace/trace_probe_tmpl.h`](srctree/kernel/trace/trace_probe_tmpl.h)

use crate::{
    command::{
        Command,
        Problem, //
    },
    entry::ProbeKind,
    probe::EventProbe, //
};
use core::{
    alloc::Layout,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    alloc::{
        allocator::Kmalloc,
        Allocator,
        NumaNode, //
    },
    bindings, container_of,
    error::to_result,
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_ulong, //
    },
    prelude::*,
    ptregs::PtRegs,
    str::CStr,
};

/// A `struct trace_probe`, followed by its arguments, and a pointer to its owner.
#[repr(C)]
struct Header {
    owner: *const EventProbe,
    tp: bindings::trace_probe,
}

/// Owner of a `struct trace_probe`.
///
/// # Invariants
///
/// `header` points to an initialised header, in an allocation from [`Kmalloc`] of the layout that
/// [`layout`] gives for `len` arguments, in which `trace_probe_init()` succeeded. The arguments are
/// parsed once `new()` has returned.
pub(crate) struct Args {
    header: NonNull<Header>,
    len: usize,
    plan: FetchPlan,
}

// SAFETY: A `struct trace_probe` is not bound to a thread.
unsafe impl Send for Args {}

// SAFETY: The arguments do not change after `new()`. The other fields of a `struct trace_probe` are
// protected by `event_mutex` or RCU, which the functions that access them require.
unsafe impl Sync for Args {}

/// Layout of a [`Header`] and the `len` arguments after it.
fn layout(len: usize) -> Result<Layout> {
    let array = Layout::array::<bindings::probe_arg>(len).map_err(|_| EINVAL)?;
    let (layout, _) = Layout::new::<Header>().extend(array).map_err(|_| EINVAL)?;

    Ok(layout.pad_to_align())
}

impl Args {
    /// Creates the `struct trace_probe` of a probe, with an event of its own, and parses the words
    /// of `command` from `first` on as the arguments.
    pub(crate) fn new(
        command: &Command<'_>,
        first: usize,
        kind: ProbeKind,
        group: &CStr,
        event: &CStr,
    ) -> Result<Self> {
        let mut args = Self::allocate(group, event, command.len().saturating_sub(first))?;

        args.parse(command, first, kind)?;
        // SAFETY: `parse()` has parsed all arguments.
        args.plan = unsafe { FetchPlan::new(args.as_slice(), args.size(), kind)? };
        Ok(args)
    }

    /// Allocates a `struct trace_probe` with room for `len` arguments, which the caller must parse.
    fn allocate(group: &CStr, event: &CStr, len: usize) -> Result<Self> {
        let nr_args = c_int::try_from(len)?;
        let layout = layout(len)?;
        let header =
            Kmalloc::alloc(layout, GFP_KERNEL | __GFP_ZERO, NumaNode::NO_NODE)?.cast::<Header>();

        // SAFETY: The allocation is large enough, zeroed, and owned by this function;
        // `trace_probe_init()` copies the names.
        let ret = unsafe {
            bindings::trace_probe_init(
                &raw mut (*header.as_ptr()).tp,
                event.as_char_ptr(),
                group.as_char_ptr(),
                true,
                nr_args,
            )
        };
        if ret != 0 {
            // SAFETY: `header` was allocated above with this layout, and no other pointer to it
            // exists.
            unsafe { Kmalloc::free(header.cast(), layout) };
            return Err(Error::from_errno(ret));
        }
        // SAFETY: `trace_probe_init()` has created an event, with a filter, for this probe only.
        unsafe { bindings::trace_probe_perf_init((*header.as_ptr()).tp.event) };
        // INVARIANT: `header` was allocated and initialised above, and `trace_probe_init()`
        // succeeded.
        Ok(Self {
            header,
            len,
            plan: FetchPlan::INTERPRETED,
        })
    }

    /// Returns the `struct trace_probe`.
    pub(crate) fn as_ptr(&self) -> *mut bindings::trace_probe {
        // SAFETY: By the type invariants the header exists.
        unsafe { &raw mut (*self.header.as_ptr()).tp }
    }

    /// Returns the number of bytes of the arguments in an entry, not counting strings.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: By the type invariants the probe is initialised.
        // CAST: The size is never negative.
        unsafe { (*self.as_ptr()).size as usize }
    }

    /// Returns the arguments.
    pub(crate) fn as_slice(&self) -> &[bindings::probe_arg] {
        // SAFETY: By the type invariants `len` arguments follow the probe, and they are not
        // changed while `self` is borrowed.
        unsafe { core::slice::from_raw_parts((*self.as_ptr()).args.as_ptr(), self.len) }
    }

    /// Returns the plan for fetching the arguments.
    #[inline]
    pub(crate) fn plan(&self) -> &FetchPlan {
        &self.plan
    }

    /// Returns an iterator over the names and the fetch expressions of the arguments.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&CStr, &CStr)> {
        // SAFETY: By the type invariants the arguments are parsed, so that both are strings.
        let text = |text: *const c_char| unsafe { CStr::from_char_ptr(text) };

        self.as_slice()
            .iter()
            .map(move |arg| (text(arg.name), text(arg.comm)))
    }

    /// Returns whether two probes fetch the same arguments. The caller must have compared the names
    /// and types of the arguments before.
    pub(crate) fn fetches_as(&self, other: &Self) -> bool {
        self.texts()
            .zip(other.texts())
            .all(|((_, mine), (_, theirs))| mine == theirs)
    }

    /// Sets the [`EventProbe`] that owns the arguments.
    pub(crate) fn set_owner(&mut self, owner: *const EventProbe) {
        // SAFETY: By the type invariants the header exists, and `self` is borrowed exclusively.
        unsafe { (*self.header.as_ptr()).owner = owner }
    }

    /// Returns the [`EventProbe`] that owns a `struct trace_probe`.
    ///
    /// # Safety
    ///
    /// `tp` must be from [`Args::as_ptr`] of a value that exists.
    pub(crate) unsafe fn owner(tp: *mut bindings::trace_probe) -> *const EventProbe {
        // SAFETY: By the safety requirements `tp` is in a header.
        unsafe { (*container_of!(tp, Header, tp)).owner }
    }

    /// Parses the words of `command` from `first` on as the arguments.
    fn parse(&mut self, command: &Command<'_>, first: usize, kind: ProbeKind) -> Result {
        let mut context = ParseContext(KBox::init(pin_init::init_zeroed(), GFP_KERNEL)?);
        context.0.flags = kind.parser_flags();

        for i in 0..self.len {
            command.index_log(first + i);
            // SAFETY: The probe has room for argument `i`, and the word is a string. `command`
            // holds the mutex of the error log, which has the index of the word.
            to_result(unsafe {
                bindings::traceprobe_parse_probe_arg(
                    self.as_ptr(),
                    // CAST: There are at most `c_int::MAX` arguments, see `allocate()`.
                    i as c_int,
                    command.word(first + i).as_char_ptr(),
                    &raw mut *context.0,
                )
            })?;
        }

        // SAFETY: The loop above has parsed all arguments, and the probe is initialised.
        to_result(unsafe { bindings::traceprobe_set_print_fmt(self.as_ptr(), kind.print_type()) })
    }

    /// Rejects arguments that fetch from the probed file, for a probe that is not on a file.
    pub(crate) fn reject_file_offsets(&self, command: &Command<'_>, first: usize) -> Result {
        for (i, arg) in self.as_slice().iter().enumerate() {
            // SAFETY: By the type invariants the argument is parsed.
            let code = unsafe { instructions(arg) };
            if code
                .iter()
                .any(|insn| insn.op == bindings::fetch_op_FETCH_OP_FOFFS)
            {
                let word = command.word(first + i).to_bytes();
                let offset = word.windows(2).position(|w| w == b"@+").unwrap_or(0);

                return Err(command.reject(first + i, offset, Problem::BadFileOffset, EINVAL));
            }
        }
        Ok(())
    }
}

impl Drop for Args {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the probe is initialised. It has been unlinked from its
        // event, or was only ever on the list of its own event, to which no other pointer exists.
        unsafe { bindings::trace_probe_cleanup(self.as_ptr()) };

        if let Ok(layout) = layout(self.len) {
            // SAFETY: By the type invariants, this is the layout of the allocation.
            unsafe { Kmalloc::free(self.header.cast(), layout) };
        }
    }
}

/// State of the parser, which must be cleaned up.
struct ParseContext(KBox<bindings::traceprobe_parse_context>);

impl Drop for ParseContext {
    fn drop(&mut self) {
        // SAFETY: The context is initialised.
        unsafe { bindings::traceprobe_finish_parse(&raw mut *self.0) }
    }
}

/// Returns the instructions that fetch an argument, without the final `FETCH_OP_END`.
///
/// # Safety
///
/// The argument must be parsed.
unsafe fn instructions(arg: &bindings::probe_arg) -> &[bindings::fetch_insn] {
    let mut len = 0;

    // SAFETY: By the safety requirements the argument has instructions, up to `FETCH_OP_END`.
    unsafe {
        while (*arg.code.add(len)).op != bindings::fetch_op_FETCH_OP_END {
            len += 1;
        }
        core::slice::from_raw_parts(arg.code, len)
    }
}

/// Plan for fetching the arguments of a probe.
// Not an enum, because each read of the list would test the variant again.
pub(crate) struct FetchPlan {
    /// Whether the arguments are stored directly to their destination, from the registers and from
    /// the line itself. Otherwise the interpreter stores them to a buffer, because it may read
    /// memory and so may sleep.
    pub(crate) is_direct: bool,
    /// All arguments, if `is_direct`; otherwise empty.
    stores: KVec<FetchStore>,
    /// Number of bytes of an entry, if `is_direct`.
    pub(crate) entry_len: usize,
}

/// Source of the value of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FetchValue {
    /// The register at an offset in the saved registers.
    Register(c_uint),
    /// The return value of a function.
    Returned,
    StackPointer,
    Immediate(c_ulong),
}

/// Number of bytes of a value that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FetchSize {
    One,
    Two,
    Four,
    Eight,
}

/// An argument that can be fetched without reading memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FetchStore {
    value: FetchValue,
    size: FetchSize,
    /// Offset of the destination in the entry.
    offset: usize,
}

impl FetchPlan {
    const INTERPRETED: Self = Self {
        is_direct: false,
        stores: KVec::new(),
        entry_len: 0,
    };

    /// Makes the plan for arguments that take `size` bytes of an entry.
    ///
    /// # Safety
    ///
    /// The arguments must be parsed.
    unsafe fn new(args: &[bindings::probe_arg], size: usize, kind: ProbeKind) -> Result<Self> {
        let mut stores = KVec::with_capacity(args.len(), GFP_KERNEL)?;
        let mut filled = kind.head_len();

        for arg in args {
            // SAFETY: By the safety requirements the argument is parsed.
            let Some(store) = (unsafe { FetchStore::new(arg, kind) }) else {
                return Ok(Self::INTERPRETED);
            };
            // Bytes of a trace buffer that are not written keep their former contents.
            if store.offset != filled {
                return Ok(Self::INTERPRETED);
            }
            filled += store.size.bytes();
            stores.push(store, GFP_KERNEL)?;
        }
        if filled != kind.head_len() + size {
            return Ok(Self::INTERPRETED);
        }
        Ok(Self {
            is_direct: true,
            stores,
            entry_len: filled,
        })
    }

    /// Stores the arguments of a direct plan.
    ///
    /// # Safety
    ///
    /// `entry` must have room for `entry_len` bytes.
    #[inline(always)]
    pub(crate) unsafe fn store(&self, entry: *mut u8, regs: &PtRegs) {
        for store in &self.stores {
            // SAFETY: By the safety requirements there is room for the entry, which has a place for
            // each argument.
            unsafe { store.store(entry, regs) };
        }
    }
}

impl FetchStore {
    /// Returns the argument as a store, if it needs no interpreter.
    ///
    /// # Safety
    ///
    /// The argument must be parsed.
    unsafe fn new(arg: &bindings::probe_arg, kind: ProbeKind) -> Option<Self> {
        // SAFETY: By the safety requirements the argument is parsed.
        let [load, store] = (unsafe { instructions(arg) }) else {
            return None;
        };

        // SAFETY: For each operation, the union field read here is the one that the parser sets.
        let value = unsafe {
            match load.op {
                bindings::fetch_op_FETCH_OP_REG => {
                    FetchValue::Register(load.__bindgen_anon_1.param)
                }
                bindings::fetch_op_FETCH_OP_RETVAL => FetchValue::Returned,
                bindings::fetch_op_FETCH_OP_STACKP => FetchValue::StackPointer,
                bindings::fetch_op_FETCH_OP_IMM => {
                    FetchValue::Immediate(load.__bindgen_anon_1.immediate)
                }
                _ => return None,
            }
        };
        if store.op != bindings::fetch_op_FETCH_OP_ST_RAW {
            return None;
        }
        Some(Self {
            value,
            // SAFETY: For `FETCH_OP_ST_RAW` the parser sets `size`.
            size: FetchSize::new(unsafe { store.__bindgen_anon_1.__bindgen_anon_1.size })?,
            offset: kind.head_len() + arg.offset as usize,
        })
    }

    /// Stores the argument.
    ///
    /// # Safety
    ///
    /// `entry` must have room for the entry.
    #[inline]
    unsafe fn store(&self, entry: *mut u8, regs: &PtRegs) {
        let regs = regs.as_ptr();
        // SAFETY: The registers are valid.
        let value = unsafe {
            match self.value {
                FetchValue::Register(offset) => bindings::regs_get_register(regs, offset),
                FetchValue::Returned => bindings::regs_return_value(regs),
                FetchValue::StackPointer => bindings::user_stack_pointer(regs),
                FetchValue::Immediate(value) => value,
            }
        };

        // SAFETY: By the safety requirements there is room for the entry, which has `size` bytes at
        // `offset` for the argument. The writes are unaligned, because arguments have no alignment.
        // CAST: Only the low bytes are stored.
        unsafe {
            let dest = entry.add(self.offset);

            match self.size {
                FetchSize::One => dest.write(value as u8),
                FetchSize::Two => dest.cast::<u16>().write_unaligned(value as u16),
                FetchSize::Four => dest.cast::<u32>().write_unaligned(value as u32),
                FetchSize::Eight => dest.cast::<u64>().write_unaligned(value as u64),
            }
        }
    }
}

impl FetchSize {
    fn new(bytes: c_uint) -> Option<Self> {
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

/// Fetches an argument by the interpreter to `dest` or, if `dest` is null, determines how much room
/// its strings need. Returns how much room that is, or [`None`] if the argument cannot be fetched.
/// May sleep.
///
/// # Safety
///
/// The argument must be parsed. `dest` must be null or have room for the argument. If it has room
/// and the argument has strings, it must locate room for them, relative to `base`.
// Not inlined, because the interpreter is large and has a large frame.
#[inline(never)]
pub(crate) unsafe fn interpret(
    arg: &bindings::probe_arg,
    regs: &PtRegs,
    file_base: usize,
    dest: *mut u8,
    base: *mut u8,
) -> Option<usize> {
    // SAFETY: By the safety requirements the argument is parsed; fetching does not change it. The
    // registers are valid and are not changed either. By the safety requirements `dest` is null or
    // has room.
    let ret = unsafe {
        bindings::trace_probe_fetch_arg(
            ptr::from_ref(arg).cast_mut(),
            regs.as_ptr(),
            file_base as c_ulong,
            dest.cast(),
            base.cast(),
        )
    };
    usize::try_from(ret).ok()
}
