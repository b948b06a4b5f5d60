// SPDX-License-Identifier: GPL-2.0

//! A `struct trace_probe` and its arguments.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use super::{
    command::{
        Command,
        Problem, //
    },
    kind::Kind,
    plan::{
        self,
        Plan,
        Store, //
    },
};
use crate::{
    alloc::{
        allocator::Kmalloc,
        Allocator,
        NumaNode, //
    },
    bindings, container_of,
    error::to_result,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    str::CStr,
};
use core::{
    alloc::Layout,
    ptr::NonNull, //
};

/// A `struct trace_probe`, which its arguments follow, and whose it is.
#[repr(C)]
struct Header {
    /// The [`Probe`](super::Probe) that owns this.
    owner: *const c_void,
    kind: Kind,
    tp: bindings::trace_probe,
}

/// Owner of a `struct trace_probe`.
///
/// # Invariants
///
/// `header` points to an initialised header, in an allocation from [`Kmalloc`] of the layout that
/// [`layout`] gives for `len` arguments, in which `trace_probe_init()` succeeded.
pub(super) struct Args {
    header: NonNull<Header>,
    len: usize,
    plan: Plan,
}

// SAFETY: A `struct trace_probe` is of no particular thread.
unsafe impl Send for Args {}

// SAFETY: The arguments do not change once they are parsed, and that takes `&mut self`. What else
// is in a `struct trace_probe` is protected by `event_mutex` or RCU, which the functions that
// touch it ask for.
unsafe impl Sync for Args {}

/// Layout of a [`Header`] and the `len` arguments after it.
fn layout(len: usize) -> Result<Layout> {
    let array = Layout::array::<bindings::probe_arg>(len).map_err(|_| EINVAL)?;
    let (layout, _) = Layout::new::<Header>().extend(array).map_err(|_| EINVAL)?;

    Ok(layout.pad_to_align())
}

impl Args {
    /// Makes a probe of an event of its own, with `len` arguments that are yet to be parsed.
    pub(super) fn new(kind: Kind, group: &CStr, event: &CStr, len: usize) -> Result<Self> {
        let nr_args = c_int::try_from(len)?;
        let layout = layout(len)?;
        let header =
            Kmalloc::alloc(layout, GFP_KERNEL | __GFP_ZERO, NumaNode::NO_NODE)?.cast::<Header>();

        // SAFETY: The allocation is large enough, zeroed, and ours; the names are copied.
        let ret = unsafe {
            (&raw mut (*header.as_ptr()).kind).write(kind);
            bindings::trace_probe_init(
                &raw mut (*header.as_ptr()).tp,
                event.as_char_ptr(),
                group.as_char_ptr(),
                true,
                nr_args,
            )
        };
        if ret != 0 {
            // SAFETY: Allocated above with this layout, and nobody else has the pointer.
            unsafe { Kmalloc::free(header.cast(), layout) };
            return Err(Error::from_errno(ret));
        }
        // SAFETY: `trace_probe_init()` has made an event, with a filter, of this probe only.
        unsafe { bindings::trace_probe_perf_init((*header.as_ptr()).tp.event) };
        // INVARIANT: Just made so.
        Ok(Self {
            header,
            len,
            plan: Plan::INTERPRETED,
        })
    }

    /// The `struct trace_probe`.
    pub(super) fn as_ptr(&self) -> *mut bindings::trace_probe {
        // SAFETY: By the type invariants the header exists.
        unsafe { &raw mut (*self.header.as_ptr()).tp }
    }

    /// What the probe notices.
    #[inline]
    pub(super) fn kind(&self) -> Kind {
        // SAFETY: By the type invariants the header is initialised.
        unsafe { (*self.header.as_ptr()).kind }
    }

    /// The trace event. Not for use after the probe was unlinked from it.
    pub(super) fn event(&self) -> *mut bindings::trace_probe_event {
        // SAFETY: By the type invariants the probe is initialised.
        unsafe { (*self.as_ptr()).event }
    }

    /// Bytes that the arguments take in an entry, not counting strings.
    pub(super) fn size(&self) -> usize {
        // SAFETY: By the type invariants the probe is initialised.
        // CAST: The size is never negative.
        unsafe { (*self.as_ptr()).size as usize }
    }

    /// The arguments.
    pub(super) fn as_slice(&self) -> &[bindings::probe_arg] {
        // SAFETY: By the type invariants `len` arguments follow the probe, and they are not
        // changed while `self` is borrowed.
        unsafe {
            core::slice::from_raw_parts(
                (*self.as_ptr()).args.as_ptr(),
                self.len, //
            )
        }
    }

    /// Whether all arguments are in the registers.
    #[inline]
    pub(super) fn is_direct(&self) -> bool {
        self.plan.is_direct
    }

    /// The arguments, if all are in the registers.
    #[inline]
    pub(super) fn stores(&self) -> &[Store] {
        &self.plan.stores
    }

    /// Bytes that these take in an entry.
    #[inline]
    pub(super) fn stores_len(&self) -> usize {
        self.plan.len
    }

    /// Says whose this is.
    pub(super) fn set_owner(&mut self, owner: *const c_void) {
        // SAFETY: By the type invariants the header exists, and it is ours.
        unsafe { (*self.header.as_ptr()).owner = owner }
    }

    /// Whose a probe is.
    ///
    /// # Safety
    ///
    /// `tp` must be from [`Args::as_ptr`] of a value that exists.
    pub(super) unsafe fn owner(tp: *mut bindings::trace_probe) -> *const c_void {
        // SAFETY: By the safety requirements `tp` is in a header.
        unsafe { (*container_of!(tp, Header, tp)).owner }
    }

    /// What a probe notices.
    ///
    /// # Safety
    ///
    /// As of [`Args::owner`].
    pub(super) unsafe fn kind_of(tp: *mut bindings::trace_probe) -> Kind {
        // SAFETY: By the safety requirements `tp` is in a header, which is initialised.
        unsafe { (*container_of!(tp, Header, tp)).kind }
    }

    /// Parses the words of `command` from `first` on as the arguments.
    pub(super) fn parse(&mut self, command: &Command<'_>, first: usize) -> Result {
        let mut context = ParseContext(KBox::init(pin_init::init_zeroed(), GFP_KERNEL)?);
        context.0.flags = self.kind().parser_flags();

        for i in 0..self.len {
            command.index_log(first + i);
            // SAFETY: The probe has room for argument `i`, the word is a string, and the error
            // log, whose mutex is held as there is a command, has been told which word it is.
            to_result(unsafe {
                bindings::traceprobe_parse_probe_arg(
                    self.as_ptr(),
                    // CAST: There are at most `c_int::MAX` arguments, see `new()`.
                    i as c_int,
                    command.word(first + i).as_char_ptr(),
                    &raw mut *context.0,
                )
            })?;
        }

        // SAFETY: The arguments are parsed.
        self.plan = unsafe { Plan::of(self.as_slice(), self.size())? };
        // SAFETY: As above.
        to_result(unsafe {
            bindings::traceprobe_set_print_fmt(self.as_ptr(), self.kind().print_type())
        })
    }

    /// Refuses arguments that fetch from the probed file, for there is none.
    pub(super) fn refuse_file_offsets(&self, command: &Command<'_>, first: usize) -> Result {
        for (i, arg) in self.as_slice().iter().enumerate() {
            // SAFETY: The argument is parsed.
            let code = unsafe { plan::instructions(arg) };
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
        // event, or never was on any list but that of its own event, which nobody else knows.
        unsafe { bindings::trace_probe_cleanup(self.as_ptr()) };

        if let Ok(layout) = layout(self.len) {
            // SAFETY: By the type invariants, this is the layout of the allocation.
            unsafe { Kmalloc::free(self.header.cast(), layout) };
        }
    }
}

/// The parser's state, which has to be cleaned up.
struct ParseContext(KBox<bindings::traceprobe_parse_context>);

impl Drop for ParseContext {
    fn drop(&mut self) {
        // SAFETY: The context is initialised.
        unsafe { bindings::traceprobe_finish_parse(&raw mut *self.0) }
    }
}

/// Text of an argument's name or of what it fetches.
///
/// # Safety
///
/// `text` must be `name` or `comm` of a parsed argument that outlives `'a`.
pub(super) unsafe fn text<'a>(text: *const crate::ffi::c_char) -> &'a CStr {
    // SAFETY: By the safety requirements.
    unsafe { CStr::from_char_ptr(text) }
}
