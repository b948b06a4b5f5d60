// SPDX-License-Identifier: GPL-2.0

//! Lines written to control files, and the log of what is wrong with them.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use super::ProbeEvent;
use crate::{
    bindings,
    error::to_result,
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*,
    str::CStr,
};
use core::ptr::NonNull;

/// Longest name of a group or an event, with its NUL.
const NAME_LEN: usize = bindings::MAX_EVENT_NAME_LEN as usize;

/// What can be wrong with a line; the texts are in `kernel/trace/trace_probe.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Problem {
    /// What follows the address is unknown.
    BadAddressSuffix = bindings::TP_ERR_BAD_ADDR_SUFFIX,
    /// It begins with what is not a command.
    BadCommand = bindings::TP_ERR_BAD_COMMAND,
    /// The argument fetches from a file, and there is none.
    BadFileOffset = bindings::TP_ERR_BAD_FILE_OFFS,
    /// The instruction must not be probed.
    BadInstruction = bindings::TP_ERR_BAD_INSN,
    /// Not a number that a process can have.
    BadPid = bindings::TP_ERR_BAD_PID,
    /// Not a number that an address can be.
    BadProbeAddress = bindings::TP_ERR_BAD_PROBE_ADDR,
    /// The end of a function is not behind its beginning.
    BadRange = bindings::TP_ERR_BAD_RANGE,
    /// Probes of one event differ in their arguments.
    DifferentArgument = bindings::TP_ERR_DIFF_ARG_TYPE,
    /// Probes of one event differ in what they notice.
    DifferentKind = bindings::TP_ERR_DIFF_PROBE_TYPE,
    /// The event is enabled, or somebody refers to it.
    EventBusy = bindings::TP_ERR_EVENT_BUSY,
    /// The name is one of an event of another type.
    EventExists = bindings::TP_ERR_EVENT_EXIST,
    /// The event could not be registered.
    FailedToRegister = bindings::TP_ERR_FAIL_REG_PROBE,
    /// Somebody else's breakpoint is at the address.
    ForeignBreakpoint = bindings::TP_ERR_FOREIGN_BP,
    /// A function is larger than can be looked through.
    FunctionTooLarge = bindings::TP_ERR_FUNC_TOO_LARGE,
    /// The instruction's end is not mapped.
    InstructionCutOff = bindings::TP_ERR_INSN_CUT_OFF,
    /// Not a process of user space.
    KernelThread = bindings::TP_ERR_KERNEL_THREAD,
    /// A jump leads out of the function.
    LeftByJump = bindings::TP_ERR_LEFT_BY_JUMP,
    /// A place in a file.
    NoFileProbe = bindings::TP_ERR_NO_FILE_UPROBE,
    /// A place should be here.
    NoPidAddress = bindings::TP_ERR_NO_PID_ADDR,
    /// There is no such process.
    NoProcess = bindings::TP_ERR_NO_PROCESS,
    /// There is no such event.
    NoSuchEvent = bindings::TP_ERR_NO_SUCH_EVENT,
    /// These are not the instructions of a function that returns.
    NotFunction = bindings::TP_ERR_NOT_FUNCTION,
    /// The address is not one of code.
    NotExecutable = bindings::TP_ERR_NOT_EXECUTABLE,
    /// The writer may not trace the process.
    NotPermitted = bindings::TP_ERR_NOT_PERMITTED,
    /// The extent of a function, where no return is to be noticed.
    RangeOnProbe = bindings::TP_ERR_RANGE_ON_PROBE,
    /// The event has the same probe already.
    SameProbe = bindings::TP_ERR_SAME_PROBE,
    /// There are more arguments than an event can have.
    TooManyArguments = bindings::TP_ERR_TOO_MANY_ARGS,
}

/// The words of a line.
///
/// # Invariants
///
/// `words` came from `argv_split()` and is owned; it holds `count` pointers to strings.
struct Words {
    words: NonNull<*mut c_char>,
    count: usize,
}

impl Words {
    fn split(line: &CStr) -> Result<Self> {
        let mut count: c_int = 0;
        // SAFETY: `line` is a string, and `count` may be written to.
        let words = unsafe {
            bindings::argv_split(bindings::GFP_KERNEL, line.as_char_ptr(), &raw mut count)
        };

        // INVARIANT: `argv_split()` counted the words that it returned.
        Ok(Self {
            words: NonNull::new(words).ok_or(ENOMEM)?,
            count: count.try_into()?,
        })
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::argv_free(self.words.as_ptr()) }
    }
}

/// A line that is being carried out.
///
/// # Invariants
///
/// The error log knows the words. `dyn_event_ops_mutex` is held for `'a`.
pub struct Command<'a> {
    line: &'a CStr,
    words: Words,
    ours: bool,
}

impl<'a> Command<'a> {
    /// Splits `line` into words; `ours` is whether it must be one for events of type `T`.
    ///
    /// # Safety
    ///
    /// The current task must hold `dyn_event_ops_mutex` for `'a`.
    pub(super) unsafe fn new<T: ProbeEvent>(line: &'a CStr, ours: bool) -> Result<Self> {
        let words = Words::split(line)?;
        let argc = words.count.try_into()?;

        // SAFETY: The mutex is held. The words stay until `drop()` makes the log forget them.
        unsafe {
            bindings::trace_probe_log_init(
                T::NAME.as_char_ptr(),
                argc,
                words.words.as_ptr().cast::<*const c_char>(),
            )
        };
        // INVARIANT: The log has the words, and by the safety requirements the mutex is held.
        Ok(Self { line, words, ours })
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.count
    }

    /// Whether there is no word in the line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the line was written to the control file of the type. Otherwise it may be one for
    /// another type.
    pub fn is_ours(&self) -> bool {
        self.ours
    }

    /// The line as it was written.
    pub(super) fn line(&self) -> &'a CStr {
        self.line
    }

    /// A word, the empty string if there are not so many.
    pub fn word(&self, index: usize) -> &CStr {
        if index >= self.words.count {
            return c"";
        }
        // SAFETY: By the invariants of `Words`, which `self` owns, there is a string at `index`.
        unsafe { CStr::from_char_ptr(*self.words.words.as_ptr().add(index)) }
    }

    /// Tells the log which word what follows is about.
    pub(super) fn index_log(&self, index: usize) {
        // SAFETY: By the type invariants the mutex is held. The log copes with any index.
        unsafe { bindings::trace_probe_log_set_index(index.try_into().unwrap_or(c_int::MAX)) }
    }

    /// Enters a problem at a character of a word in the error log, and returns `error`.
    pub fn reject(&self, index: usize, offset: usize, problem: Problem, error: Error) -> Error {
        self.index_log(index);
        // SAFETY: By the type invariants the mutex is held, and the log has the words.
        unsafe {
            bindings::__trace_probe_log_err(
                offset.try_into().unwrap_or(0),
                problem as c_int, //
            )
        };
        error
    }

    /// Parses `[:[GROUP/][EVENT]]` after the first letter of the line.
    pub fn event_name(&self) -> Result<EventName<'_>> {
        let mut name = EventName {
            group: [0; NAME_LEN],
            event: None,
        };
        // The letter and the colon.
        let [_, rest @ ..] = self.word(0).to_bytes_with_nul() else {
            return Err(EINVAL);
        };
        let [b':', rest @ ..] = rest else {
            return Ok(name);
        };

        let mut event = rest.as_ptr().cast::<c_char>();
        let mut group = core::ptr::null();

        self.index_log(0);
        // SAFETY: `event` is what is left of a string. The buffer is as long as the function
        // wants it to be, the other pointers may be written to, and the log's mutex is held.
        to_result(unsafe {
            bindings::traceprobe_parse_event_name(
                &raw mut event,
                &raw mut group,
                name.group.as_mut_ptr().cast::<c_char>(),
                2,
            )
        })?;
        if !event.is_null() {
            // SAFETY: `event` points into the first word, which lives as long as `self`.
            name.event = Some(unsafe { CStr::from_char_ptr(event) });
        }
        Ok(name)
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the mutex is held.
        unsafe { bindings::trace_probe_log_clear() }
    }
}

/// The name that a line gives to its event.
pub struct EventName<'a> {
    group: [u8; NAME_LEN],
    event: Option<&'a CStr>,
}

impl EventName<'_> {
    /// Name of the group, if there is one in the line.
    pub fn group(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.group)
            .ok()
            .filter(|group| !group.is_empty())
    }

    /// Name of the event, if there is one in the line.
    pub fn event(&self) -> Option<&CStr> {
        self.event
    }
}
