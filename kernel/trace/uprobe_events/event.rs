// SPDX-License-Identifier: GPL-2.0

//! Events on probes at an address of a process.

use crate::{
    clients::{
        DirectRecorder,
        Profiler,
        Recorder, //
    },
    place::Place, //
};
use kernel::{
    counter::Counter,
    fmt,
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
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    task::{
        Pid,
        Task, //
    },
    trace_probe::{
        Command,
        EventType,
        Kind,
        Linked,
        Probe,
        ProbeEvent,
        Problem,
        Usage, //
    },
};
use uprobes::{
    Client,
    Process,
    Registration,
    Spot,
    Vaddr, //
};

/// Group of the events for which the line names none.
const DEFAULT_GROUP: &CStr = c"uprobes";

/// The type of these events.
pub(crate) static EVENTS: EventType<UserProbe> = EventType::new();

/// Where a probe is, and what came of it.
pub(crate) struct UserProbe {
    process: Arc<Process>,
    /// The number by which the writer of the line named the process, in the writer's pid namespace.
    pid: i32,
    kind: Kind,
    addr: Vaddr,
    /// Bytes of the function, if its returns are to be found by the instructions that return.
    size: Option<usize>,
    /// Where the file that is mapped at the address would begin.
    file_base: Option<usize>,
    /// Hits or returns, but for those that are misses. Each counts once, whoever is told of it.
    pub(crate) hits: Counter,
    /// Those that were not recorded, or that perf was not told of, for want of memory.
    pub(crate) unrecorded: Counter,
    /// Those that were not noticed, up to when the event was last disabled, for either usage.
    unnoticed: Atomic<usize>,
}

impl UserProbe {
    /// Finds the process, and makes sure that there can be a probe.
    fn new(command: &Command<'_>, place: &Place) -> Result<Self> {
        let addr = Vaddr::new(place.addr);
        let process = Process::from_pid(place.pid).map_err(|error| {
            let problem = match error {
                ESRCH => Problem::NoProcess,
                EPERM => Problem::NotPermitted,
                // A process of user space can only be missing or off limits.
                EINVAL => Problem::KernelThread,
                _ => return error,
            };
            command.reject(1, 0, problem, error)
        })?;

        let checked = match place.size {
            None => process.check(addr),
            Some(size) => process.check_returns(addr, size),
        };
        checked.map_err(|refused| {
            let error = Error::from(refused);
            let is_code = || process.check(addr).map_err(Error::from) != Err(EINVAL);
            let (offset, problem) = match error {
                E2BIG => (place.addr_offset, Problem::FunctionTooLarge),
                EEXIST => (place.addr_offset, Problem::ForeignBreakpoint),
                EFAULT => (place.addr_offset, Problem::InstructionCutOff),
                EINVAL if place.size.is_some() && is_code() => {
                    (place.addr_offset, Problem::NotFunction)
                }
                EINVAL => (place.addr_offset, Problem::NotExecutable),
                EOPNOTSUPP => (place.addr_offset, Problem::LeftByJump),
                EPERM => (place.addr_offset, Problem::BadInstruction),
                ESRCH => (0, Problem::NoProcess),
                _ => return error,
            };
            command.reject(1, offset, problem, error)
        })?;

        let file_offset = process.file_offset(addr);
        Ok(Self {
            process,
            pid: place.pid,
            kind: place.kind,
            addr,
            size: place.size,
            file_base: file_offset.map(|offset| addr.as_usize().wrapping_sub(offset)),
            hits: Counter::new()?,
            unrecorded: Counter::new()?,
            unnoticed: Atomic::new(0),
        })
    }

    /// How many hits or returns are in no trace although the event was enabled, and of how many
    /// perf was not told although it was for perf.
    pub(crate) fn misses(probe: &Linked<'_, Self>) -> usize {
        let place = probe.probe().place();
        let before = place
            .unrecorded
            .sum()
            .wrapping_add(place.unnoticed.load(Relaxed));

        // The sums wrap, as those of the counters do.
        Usage::ALL
            .into_iter()
            .filter_map(|usage| probe.inspect(usage, Enabled::unnoticed))
            .fold(before, usize::wrapping_add)
    }
}

impl UserProbe {
    /// Writes the place, with the number that the process has for the reader, if it has one.
    pub(crate) fn show_place(&self, m: &SeqFile, number: Option<Pid>) {
        seq_print!(m, "{}:{:#018x}", number.unwrap_or(0), self.address());
        if let Some(size) = self.size {
            seq_print!(m, "-{:#018x}", self.address().wrapping_add(size));
        }
    }

    /// Returns the number that the process has in the pid namespace of the current thread, unless
    /// the process is over.
    pub(crate) fn number(&self) -> Option<Pid> {
        self.process.number()
    }

    /// Returns whether a handler of the probe has been found to misbehave while the event is
    /// enabled.
    pub(crate) fn is_disarmed(probe: &Linked<'_, Self>) -> bool {
        Usage::ALL.into_iter().any(|usage| {
            let disarmed = |enabled: &Enabled| enabled.registration.is_disarmed();
            probe.inspect(usage, disarmed).unwrap_or(false)
        })
    }
}

/// A probe that is in place.
pub(crate) struct Enabled {
    probe: Arc<Probe<UserProbe>>,
    registration: Registration,
}

impl Enabled {
    /// How many hits or returns were not noticed since then.
    fn unnoticed(&self) -> usize {
        self.registration.counts().misses
    }
}

/// What the first word of a line asks for.
fn requested(word: &[u8]) -> Option<Kind> {
    match word {
        [b'p'] | [b'p', b':', ..] => Some(Kind::Hit),
        [b'r'] | [b'r', b':', ..] => Some(Kind::Return),
        _ => None,
    }
}

impl ProbeEvent for UserProbe {
    type Enabled = Enabled;

    const NAME: &'static CStr = c"uprobe_events";

    fn event_type() -> &'static EventType<Self> {
        &EVENTS
    }

    fn create(command: &Command<'_>) -> Result {
        let requested = requested(command.word(0).to_bytes());
        let word = command.word(1).to_bytes();

        if !command.is_ours() && (requested.is_none() || !Place::is_meant(word)) {
            return Err(ECANCELED);
        }
        let Some(kind) = requested else {
            return Err(command.reject(0, 0, Problem::BadCommand, EINVAL));
        };

        let place = Place::parse(word, kind)
            .map_err(|wrong| command.reject(1, wrong.offset, wrong.problem, wrong.error))?;
        let name = command.event_name()?;
        let probe = Self::new(command, &place)?;

        let default_name;
        let event = match name.event() {
            Some(event) => event,
            None => {
                let letter = place.kind.letter();
                default_name =
                    CString::try_from_fmt(fmt!("{}_{}_{:#x}", letter, place.pid, place.addr))?;
                &*default_name
            }
        };
        Probe::create(
            command,
            name.group().unwrap_or(DEFAULT_GROUP),
            event,
            probe,
            2,
        )
    }

    #[inline]
    fn kind(&self) -> Kind {
        self.kind
    }

    #[inline]
    fn address(&self) -> usize {
        self.addr.as_usize()
    }

    fn show_line(&self, m: &SeqFile, start: fmt::Arguments<'_>) {
        let number = self.number();
        if number.is_none() {
            seq_print!(m, "# ");
        }
        seq_print!(m, "{}", start);
        self.show_place(m, number);
    }

    fn is_at(&self, place: &CStr) -> bool {
        Place::parse(place.to_bytes(), self.kind).is_ok_and(|place| {
            place.addr == self.address()
                && place.kind == self.kind
                && place.size == self.size
                && (self.process.has_thread_numbered(place.pid)
                    || place.pid == self.pid && self.process.is_over())
        })
    }

    // By identity, because a number is of one pid namespace, and is used again.
    fn is_same_place(&self, other: &Self) -> bool {
        self.process.is_same(&other.process) && self.addr == other.addr && self.size == other.size
    }

    fn is_replaced_by(&self, new: &Self) -> bool {
        self.pid == new.pid
            && self.addr == new.addr
            && self.size == new.size
            && self.process.is_over()
    }

    fn is_over(&self) -> bool {
        self.process.is_over()
    }

    fn is_in_process_of(&self, thread: &Task) -> bool {
        self.process.has_thread(thread)
    }

    #[inline]
    fn file_base(&self) -> Option<usize> {
        self.file_base
    }

    fn enable(probe: ArcBorrow<'_, Probe<Self>>, usage: Usage) -> Result<Enabled> {
        let place = probe.place();
        let spot = Spot {
            size: place.size,
            ..Spot::at(place.addr)
        };
        let client: Arc<dyn Client> = match usage {
            Usage::Trace => match DirectRecorder::new(probe) {
                Some(recorder) => Arc::new(recorder, GFP_KERNEL)?,
                None => Arc::new(Recorder(probe.into()), GFP_KERNEL)?,
            },
            Usage::Perf => Arc::new(Profiler(probe.into()), GFP_KERNEL)?,
        };

        Ok(Enabled {
            probe: probe.into(),
            registration: uprobes::register(&place.process, spot, client)?,
        })
    }

    fn disable(enabled: impl Iterator<Item = Enabled>) {
        Registration::unregister_all(enabled.map(|enabled| {
            let unnoticed = &enabled.probe.place().unnoticed;

            unnoticed.add(enabled.unnoticed(), Relaxed);
            enabled.registration
        }));
    }
}
