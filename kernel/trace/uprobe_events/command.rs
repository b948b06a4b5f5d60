// SPDX-License-Identifier: GPL-2.0

//! Lines written to the control file, and the log of their errors.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*,
    str::CStr,
};

/// Maximum length of the name of a group or an event, with its NUL.
const NAME_LEN: usize = bindings::MAX_EVENT_NAME_LEN as usize;

/// Errors in a line; the texts are in `kernel/trace/trace_probe.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Problem {
    /// The text that follows the address is unknown.
    BadAddressSuffix = bindings::TP_ERR_BAD_ADDR_SUFFIX,
    /// The line does not begin with a command.
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
    /// Probes of one event differ in their [`ProbeKind`](crate::entry::ProbeKind).
    DifferentKind = bindings::TP_ERR_DIFF_PROBE_TYPE,
    /// The event is enabled, or is referenced.
    EventBusy = bindings::TP_ERR_EVENT_BUSY,
    /// The name belongs to an event of another type.
    EventExists = bindings::TP_ERR_EVENT_EXIST,
    /// The event could not be registered.
    FailedToRegister = bindings::TP_ERR_FAIL_REG_PROBE,
    /// A foreign breakpoint is at the address.
    ForeignBreakpoint = bindings::TP_ERR_FOREIGN_BP,
    /// The function is larger than the limit for a control-flow walk.
    FunctionTooLarge = bindings::TP_ERR_FUNC_TOO_LARGE,
    /// The instruction's end is not mapped.
    InstructionCutOff = bindings::TP_ERR_INSN_CUT_OFF,
    /// The process is not one of user space.
    KernelThread = bindings::TP_ERR_KERNEL_THREAD,
    /// The place is in a file.
    /// The place is missing.
    NoPidAddress = bindings::TP_ERR_NO_PID_ADDR,
    /// There is no such process.
    NoProcess = bindings::TP_ERR_NO_PROCESS,
    /// There is no such event.
    NoSuchEvent = bindings::TP_ERR_NO_SUCH_EVENT,
    /// These are not the instructions of a function that returns.
    NotFunction = bindings::TP_ERR_NOT_FUNCTION,
    /// The address is not executable.
    NotExecutable = bindings::TP_ERR_NOT_EXECUTABLE,
    /// The writer may not trace the process.
    NotPermitted = bindings::TP_ERR_NOT_PERMITTED,
    /// The extent of a function is given for a probe that is not on a return.
    RangeOnProbe = bindings::TP_ERR_RANGE_ON_PROBE,
    /// The event has the same probe already.
    SameProbe = bindings::TP_ERR_SAME_PROBE,
    /// There are more arguments than an event can have.
    TooManyArguments = bindings::TP_ERR_TOO_MANY_ARGS,
}

/// Words of a line.
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
        // SAFETY: By the type invariants `words` came from `argv_split()` and is owned.
        unsafe { bindings::argv_free(self.words.as_ptr()) }
    }
}

/// A line that is being executed.
///
/// # Invariants
///
/// The error log has the words. `dyn_event_ops_mutex` is held for `'a`.
pub(crate) struct Command<'a> {
    line: &'a CStr,
    words: Words,
    ours: bool,
}

impl<'a> Command<'a> {
    /// Splits `line` into words; `ours` is whether it was written to
    /// `uprobe_events`.
    ///
    /// # Safety
    ///
    /// The current task must hold `dyn_event_ops_mutex` for `'a`.
    pub(crate) unsafe fn new(line: &'a CStr, ours: bool) -> Result<Self> {
        let words = Words::split(line)?;
        let argc = words.count.try_into()?;

        // SAFETY: The mutex is held. The words stay until `drop()` clears the log.
        unsafe {
            bindings::trace_probe_log_init(
                c"uprobe_events".as_char_ptr(),
                argc,
                words.words.as_ptr().cast::<*const c_char>(),
            )
        };
        // INVARIANT: The log has the words, and by the safety requirements the mutex is held.
        Ok(Self { line, words, ours })
    }

    /// Returns the number of words.
    pub(crate) fn len(&self) -> usize {
        self.words.count
    }

    /// Returns whether the line has no words.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the line was written to `uprobe_events`. Otherwise it was written to
    /// `dynamic_events`, and may be for another type of event.
    pub(crate) fn is_ours(&self) -> bool {
        self.ours
    }

    /// Returns the line as it was written.
    pub(crate) fn line(&self) -> &'a CStr {
        self.line
    }

    /// Returns a word, or the empty string if the line has fewer words.
    pub(crate) fn word(&self, index: usize) -> &CStr {
        if index >= self.words.count {
            return c"";
        }
        // SAFETY: By the invariants of `Words`, which `self` owns, there is a string at `index`.
        unsafe { CStr::from_char_ptr(*self.words.words.as_ptr().add(index)) }
    }

    /// Sets the word that the following messages of the log are about.
    pub(crate) fn index_log(&self, index: usize) {
        // SAFETY: By the type invariants the mutex is held. The log accepts any index.
        unsafe { bindings::trace_probe_log_set_index(index.try_into().unwrap_or(c_int::MAX)) }
    }

    /// Enters a problem at a character of a word in the error log, and returns `error`.
    pub(crate) fn reject(
        &self,
        index: usize,
        offset: usize,
        problem: Problem,
        error: Error,
    ) -> Error {
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
    pub(crate) fn event_name(&self) -> Result<EventName<'_>> {
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
        // SAFETY: `event` is the rest of a string. The buffer has the length that the function
        // requires, the other pointers may be written to, and the log's mutex is held.
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

/// Name that a line gives to its event.
pub(crate) struct EventName<'a> {
    group: [u8; NAME_LEN],
    event: Option<&'a CStr>,
}

impl EventName<'_> {
    /// Returns the name of the group, if the line has one.
    pub(crate) fn group(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.group)
            .ok()
            .filter(|group| !group.is_empty())
    }

    /// Returns the name of the event, if the line has one.
    pub(crate) fn event(&self) -> Option<&CStr> {
        self.event
    }
}
