// SPDX-License-Identifier: GPL-2.0

//! Probes of an event: creation from a line, listing and removal.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use crate::{
    args::Args,
    command::{
        Command,
        Problem, //
    },
    control,
    enable::{
        Usage,
        UsageState, //
    },
    entry::ProbeKind,
    location::ProbeLocation,
    trace_event::{
        EventsLocked,
        TraceEvent, //
    },
};
use kernel::{
    bindings,
    counter::Counter,
    error::to_result,
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    str::{
        CStr,
        CString, //
    },
    sync::{
        atomic::Atomic,
        Arc,
        UniqueArc, //
    },
    task::Pid,
    types::Opaque,
    uprobes::Detection, //
};
use uprobes::{
    Process,
    Vaddr, //
};

/// Group of an event, if its line names none.
const DEFAULT_GROUP: &CStr = c"uprobes";

/// Maximum number of arguments of an event.
const MAX_ARGS: usize = bindings::MAX_TRACE_ARGS as usize;

/// Index of the first argument among the words of a line.
const FIRST_ARG: usize = 2;

/// Address in a process, which can be probed.
pub(crate) struct ProbedAddress {
    pub(crate) process: Arc<Process>,
    /// Number by which the writer of the line named the process, in the writer's pid namespace.
    pid: Pid,
    pub(crate) addr: Vaddr,
    /// Size of the function in bytes, if its return instructions are to be probed.
    pub(crate) size: Option<usize>,
    /// Address at which offset 0 of the file mapped at `addr` would be.
    file_base: Option<usize>,
}

impl ProbedAddress {
    /// Finds the process, and checks that the address can be probed.
    fn new(command: &Command<'_>, location: &ProbeLocation) -> Result<Self> {
        let addr = Vaddr::new(location.addr);
        let process = Process::from_pid(location.pid).map_err(|error| {
            let problem = match error {
                ESRCH => Problem::NoProcess,
                EPERM => Problem::NotPermitted,
                // For a process of user space, only `ESRCH` and `EPERM` are possible.
                EINVAL => Problem::KernelThread,
                _ => return error,
            };
            command.reject(1, 0, problem, error)
        })?;

        let checked = match location.size {
            None => process.check(addr),
            Some(size) => process.check_function(addr, size),
        };
        checked.map_err(|refused| {
            let error = Error::from(refused);
            let is_code = || process.check(addr).map_err(Error::from) != Err(EINVAL);
            let (offset, problem) = match error {
                E2BIG => (location.addr_offset, Problem::FunctionTooLarge),
                EEXIST => (location.addr_offset, Problem::ForeignBreakpoint),
                EFAULT => (location.addr_offset, Problem::InstructionCutOff),
                EINVAL if location.size.is_some() && is_code() => {
                    (location.addr_offset, Problem::NotFunction)
                }
                EINVAL => (location.addr_offset, Problem::NotExecutable),
                EPERM => (location.addr_offset, Problem::BadInstruction),
                ESRCH => (0, Problem::NoProcess),
                _ => return error,
            };
            command.reject(1, offset, problem, error)
        })?;

        let file_offset = process.file_offset(addr);
        Ok(Self {
            process,
            pid: location.pid,
            addr,
            size: location.size,
            file_base: file_offset.map(|offset| addr.as_usize().wrapping_sub(offset)),
        })
    }

    /// Returns whether two probed addresses are the same.
    // Compares the processes and not their numbers, because a number belongs to one pid namespace,
    // and is reused.
    fn is_same(&self, other: &Self) -> bool {
        self.process.is_same(&other.process) && self.addr == other.addr && self.size == other.size
    }

    /// Returns whether the probes here, which can never fire again, are for the same lines as
    /// probes that are created at `new`.
    fn is_replaced_by(&self, new: &Self) -> bool {
        self.pid == new.pid
            && self.addr == new.addr
            && self.size == new.size
            && self.process.is_over()
    }

    /// Writes the address. `number` is the number of the process for the reader, if it has one.
    fn show(&self, m: &SeqFile, number: Option<Pid>) {
        let addr = self.addr.as_usize();

        seq_print!(m, "{}:{:#018x}", number.unwrap_or(0), addr);
        if let Some(size) = self.size {
            seq_print!(m, "-{:#018x}", addr.wrapping_add(size));
        }
    }
}

/// One probe of an event. Several probes may share an event.
///
/// # Invariants
///
/// - While `node` is on the list of dynamic events, the list owns a reference to the probe.
/// - The probe is linked to its event from its creation until it is taken off that list.
/// - `trace` and `perf` have the event only while the probe is linked to the event. The probe is
///   unlinked only when an RCU grace period has passed since the event was removed from them.
pub(crate) struct EventProbe {
    pub(crate) node: Opaque<bindings::dyn_event>,
    pub(crate) args: Args,
    pub(crate) kind: ProbeKind,
    pub(crate) target: ProbedAddress,
    pub(crate) trace: UsageState,
    pub(crate) perf: UsageState,
    /// Hits or returns, without misses. Each counts once, even if the event is enabled for both
    /// usages.
    pub(crate) hits: Counter,
    /// Hits or returns that were lost to the trace or to perf for lack of memory.
    pub(crate) unrecorded: Counter,
    /// Hits or returns that were not detected, up to the last time that the event was disabled, for
    /// either usage.
    pub(crate) undetected: Atomic<usize>,
}

// SAFETY: `node` is protected by `event_mutex`; all other fields are `Send`.
unsafe impl Send for EventProbe {}

// SAFETY: `node` is protected by `event_mutex`; all other fields are `Sync`.
unsafe impl Sync for EventProbe {}

impl EventProbe {
    /// Executes a line that creates a probe, and its event if there is none of that name.
    ///
    /// On failure the error log has the reason, and nothing is left behind.
    ///
    /// # Errors
    ///
    /// [`ECANCELED`] if the line appears to be for another type of event.
    pub(crate) fn create(command: &Command<'_>) -> Result {
        let requested = requested(command.word(0).to_bytes());
        let word = command.word(1).to_bytes();

        if !command.is_ours() && (requested.is_none() || !ProbeLocation::is_meant(word)) {
            return Err(ECANCELED);
        }
        let Some(kind) = requested else {
            return Err(command.reject(0, 0, Problem::BadCommand, EINVAL));
        };

        let location = ProbeLocation::parse(word, kind)
            .map_err(|wrong| command.reject(1, wrong.offset, wrong.problem, wrong.error))?;
        let kind = location.kind;
        let name = command.event_name()?;
        let target = ProbedAddress::new(command, &location)?;

        let default_name;
        let event = match name.event() {
            Some(event) => event,
            None => {
                let (letter, pid) = (kind.letter(), location.pid);
                default_name = CString::try_from_fmt(fmt!("{letter}_{pid}_{:#x}", location.addr))?;
                &*default_name
            }
        };
        if command.len().saturating_sub(FIRST_ARG) > MAX_ARGS {
            return Err(command.reject(FIRST_ARG, 0, Problem::TooManyArguments, E2BIG));
        }

        let group = name.group().unwrap_or(DEFAULT_GROUP);
        let args = Args::new(command, FIRST_ARG, kind, group, event)?;
        if target.file_base.is_none() {
            args.reject_file_offsets(command, FIRST_ARG)?;
        }

        let probe = Self::new(args, kind, target)?;
        EventsLocked::with(|locked| Self::publish(probe, command, locked))
    }

    /// Allocates a probe, and lets its parts refer to each other.
    fn new(args: Args, kind: ProbeKind, target: ProbedAddress) -> Result<Arc<Self>> {
        // INVARIANT: The probe is linked to an event of its own, and on no list.
        let mut probe = UniqueArc::new(
            Self {
                node: Opaque::uninit(),
                args,
                kind,
                target,
                trace: UsageState::new(),
                perf: UsageState::new(),
                hits: Counter::new()?,
                unrecorded: Counter::new()?,
                undetected: Atomic::new(0),
            },
            GFP_KERNEL,
        )?;

        let owner = &raw const *probe;
        probe.args.set_owner(owner);
        // SAFETY: The node is in the probe that was just allocated, and does not move.
        unsafe { bindings::dyn_event_init(probe.node.get(), control::operations()) };
        Ok(probe.into())
    }

    /// Adds the probe to its event, and lists it.
    fn publish(probe: Arc<Self>, command: &Command<'_>, locked: &mut EventsLocked) -> Result {
        match control::find_namesake(&probe, locked) {
            Some(other) => probe.append_to(&other, command, locked)?,
            None => probe.register_event(command, locked)?,
        }

        let Some(event) = probe.event(locked) else {
            return Err(EINVAL);
        };
        // INVARIANT: The list owns the reference that is made here.
        let _ = Arc::into_raw(probe.clone());
        // SAFETY: The node is initialised and on no list, and the events are locked.
        unsafe { bindings::dyn_event_add(probe.node.get(), event.call()) };

        // If the event existed before and is enabled, the new probe is needed as well.
        let started = Usage::ALL
            .into_iter()
            .filter(|&usage| event.needs(&probe, usage))
            .try_for_each(|usage| Self::start(probe.as_arc_borrow(), usage, event));

        started.inspect_err(|_| {
            // SAFETY: The probe was listed above. The event was enabled, so it has another probe.
            unsafe { Self::unlist(&probe, locked) };
        })?;
        while let Some(over) = probe.replaced(locked) {
            // SAFETY: Probes of an event are listed, and the event also has the new probe.
            unsafe { Self::unlist(&over, locked) };
        }
        Ok(())
    }

    /// Registers the event, which is the probe's own.
    fn register_event(&self, command: &Command<'_>, locked: &EventsLocked) -> Result {
        let event = self.event(locked).ok_or(EINVAL)?;

        event.register().map_err(|error| {
            let problem = if error == EEXIST {
                Problem::EventExists
            } else {
                Problem::FailedToRegister
            };
            command.reject(0, 0, problem, error)
        })
    }

    /// Adds the probe to the event of `other`, in place of its own event, to which no other probe
    /// belongs.
    fn append_to(&self, other: &Self, command: &Command<'_>, locked: &mut EventsLocked) -> Result {
        // Entries of the two kinds begin differently.
        if self.kind != other.kind {
            return Err(command.reject(0, 0, Problem::DifferentKind, EEXIST));
        }
        // SAFETY: The arguments of both are parsed.
        let differs = unsafe {
            bindings::trace_probe_compare_arg_type(self.args.as_ptr(), other.args.as_ptr())
        };
        if let Ok(nth @ 1..) = usize::try_from(differs) {
            // Arguments are counted from one here, and follow the command and the location.
            return Err(command.reject(nth + 1, 0, Problem::DifferentArgument, EEXIST));
        }
        let event = other.event(locked).ok_or(EINVAL)?;
        let mut probes = event.probes();
        if probes.any(|probe| self.target.is_same(&probe.target) && self.fetches_as(&probe)) {
            return Err(command.reject(0, 0, Problem::SameProbe, EEXIST));
        }

        // INVARIANT: The probe is linked to the event of `other` in place of its own.
        // SAFETY: Both are linked, `self` to an event that no other probe shares; the function
        // frees that event, to which the exclusive `locked` allows no reference.
        to_result(unsafe { bindings::trace_probe_append(self.args.as_ptr(), other.args.as_ptr()) })
    }

    fn fetches_as(&self, other: &Self) -> bool {
        self.args.fetches_as(&other.args)
    }

    /// Returns another probe of the event that the probe replaces, if there is one.
    fn replaced(&self, locked: &EventsLocked) -> Option<Arc<Self>> {
        self.event(locked)?
            .probes()
            .find(|other| {
                !core::ptr::eq(&**other, self)
                    && other.target.is_replaced_by(&self.target)
                    && self.fetches_as(other)
            })
            .map(Arc::from)
    }

    /// Removes a listed probe, and with the event's last probe the event.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the event is enabled or in use.
    pub(crate) fn remove(probe: &Arc<Self>, locked: &mut EventsLocked) -> Result {
        let event = probe.event(locked).ok_or(EINVAL)?;

        if event.is_enabled() {
            return Err(EBUSY);
        }
        if event.probes().nth(1).is_none() {
            if event.is_busy() {
                return Err(EBUSY);
            }
            event.unregister()?;
        }
        // SAFETY: The probe is linked to a registered event, so it is listed. If it was the last
        // one, the event has been unregistered.
        unsafe { Self::unlist(probe, locked) };
        Ok(())
    }

    /// Removes a probe if it is inserted, takes it off the list of dynamic events and unlinks it
    /// from its event.
    ///
    /// # Safety
    ///
    /// The probe must be listed. If it is the last one of its event, the event must have been
    /// unregistered.
    unsafe fn unlist(probe: &Arc<Self>, locked: &mut EventsLocked) {
        for usage in Usage::ALL {
            Self::stop(core::iter::once(probe.as_arc_borrow()), usage, locked);
        }
        // SAFETY: By the safety requirements the node is on the list, and the events are locked.
        unsafe { bindings::dyn_event_remove(probe.node.get()) };
        for usage in Usage::ALL {
            probe.state(usage).synchronize(locked);
        }
        // INVARIANT: No usage has the event, and a grace period has passed since it was removed.
        // SAFETY: A listed probe is linked, and the events are locked. The function may free the
        // event, to which the exclusive `locked` allows no reference.
        unsafe { bindings::trace_probe_unlink_printed(probe.args.as_ptr()) };

        // INVARIANT: The list, which no longer has the probe, gives up its reference.
        // SAFETY: The list owned a reference, which `publish()` made by `Arc::into_raw()`.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(probe)) });
    }

    /// Returns the event of the probe, or [`None`] if the probe has been taken off the list.
    pub(crate) fn event<'a>(&self, locked: &'a EventsLocked) -> Option<TraceEvent<'a>> {
        // SAFETY: The probe is initialised. Its event does not change, because the events are
        // locked.
        let event = unsafe { (*self.args.as_ptr()).event };

        // SAFETY: A pointer that is not null is to the event that the probe is linked to.
        (!event.is_null()).then(|| unsafe { TraceEvent::from_raw(event, locked) })
    }

    /// Returns the probed address: of the instruction, or of the function that returns.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        self.target.addr.as_usize()
    }

    /// Returns the address at which offset 0 of the probed file would be, if the probe is on a
    /// file.
    #[inline]
    pub(crate) fn file_base(&self) -> Option<usize> {
        self.target.file_base
    }

    /// Writes the probe as a line that would create it. If the reader cannot create the probe by
    /// any line, the line is a comment.
    pub(crate) fn show(&self, event: TraceEvent<'_>, m: &SeqFile) {
        let number = self.target.process.number();

        if number.is_none() {
            seq_print!(m, "# ");
        }
        let letter = self.kind.letter();
        seq_print!(m, "{}:{}/{} ", letter, event.group(), event.name());
        self.target.show(m, number);
        for (name, fetch) in self.args.texts() {
            seq_print!(m, " {}={}", name, fetch);
        }
        seq_print!(m, "\n");
        // CAST: `SeqFile` is transparent over `struct seq_file`.
        let m = core::ptr::from_ref(m).cast_mut().cast();
        // SAFETY: The arguments are parsed, and `m` is a sequence file.
        unsafe { bindings::trace_probe_dump_args(m, self.args.as_ptr()) };
    }

    /// Writes the number of hits or returns of the probe, and separately the number of misses; of
    /// an enabled return probe also how the returns are detected. A disarmed probe is marked.
    pub(crate) fn show_profile(&self, event: TraceEvent<'_>, m: &SeqFile) {
        seq_print!(m, "  ");
        self.target.show(m, self.target.process.number());
        seq_print!(
            m,
            " {:<44} {:>15} {:>15}",
            event.name().to_str().unwrap_or_default(),
            self.hits.sum(),
            self.misses(event.locked()),
        );
        match self.detection(event.locked()) {
            Some(Detection::OwnReturnInsns) => seq_print!(m, " own-instructions"),
            Some(Detection::ReturnInsns) => seq_print!(m, " instructions"),
            Some(Detection::ReturnAddress { walk_end }) => {
                seq_print!(m, " address:{:#x}", walk_end)
            }
            None => (),
        }
        if self.is_disarmed(event.locked()) {
            seq_print!(m, " disarmed");
        }
        seq_print!(m, "\n");
    }

    /// Returns whether `word`, from a line, is the location of the probe.
    pub(crate) fn is_at(&self, word: &CStr) -> bool {
        let target = &self.target;

        ProbeLocation::parse(word.to_bytes(), self.kind).is_ok_and(|location| {
            location.addr == self.address()
                && location.kind == self.kind
                && location.size == target.size
                && (target.process.has_thread_numbered(location.pid)
                    || location.pid == target.pid && target.process.is_over())
        })
    }
}

/// Returns the kind of probe that the first word of a line asks for.
fn requested(word: &[u8]) -> Option<ProbeKind> {
    match word {
        [b'p'] | [b'p', b':', ..] => Some(ProbeKind::Hit),
        [b'r'] | [b'r', b':', ..] => Some(ProbeKind::Return),
        _ => None,
    }
}
