// SPDX-License-Identifier: GPL-2.0

//! Events on probes at an address of a process.

use crate::place::Place;
use kernel::{
    counter::Counter,
    prelude::*,
    ptregs::PtRegs,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    str::{
        CStr,
        CString, //
    },
    sync::{
        Arc,
        ArcBorrow, //
    },
    trace_probe::{
        Command,
        EventType,
        Probe,
        ProbeEvent,
        Problem, //
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
    /// Number of the process, as the writer of the line saw it.
    pub(crate) pid: i32,
    pub(crate) addr: Vaddr,
    /// Where the file that is mapped at the address would begin.
    file_base: Option<usize>,
    /// Hits, recorded or not.
    pub(crate) hits: Counter,
    /// Hits that were not recorded, for want of memory.
    pub(crate) misses: Counter,
}

impl UserProbe {
    /// Finds the process, and makes sure that a probe can be at the address.
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

        process.check(addr).map_err(|refused| {
            let error = Error::from(refused);
            let (offset, problem) = match error {
                EEXIST => (place.addr_offset, Problem::ForeignBreakpoint),
                EFAULT => (place.addr_offset, Problem::InstructionCutOff),
                EINVAL => (place.addr_offset, Problem::NotExecutable),
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
            addr,
            file_base: file_offset.map(|offset| addr.as_usize().wrapping_sub(offset)),
            hits: Counter::new()?,
            misses: Counter::new()?,
        })
    }
}

/// What the first word of a line asks for.
enum Request {
    Probe,
    ReturnProbe,
    Other,
}

impl Request {
    fn parse(word: &[u8]) -> Self {
        match word {
            [b'p'] | [b'p', b':', ..] => Self::Probe,
            [b'r', ..] => Self::ReturnProbe,
            _ => Self::Other,
        }
    }
}

impl ProbeEvent for UserProbe {
    type Enabled = Registration;

    const NAME: &'static CStr = c"uprobe_events";

    fn event_type() -> &'static EventType<Self> {
        &EVENTS
    }

    fn create(command: &Command<'_>) -> Result {
        let request = Request::parse(command.word(0).to_bytes());
        let word = command.word(1).to_bytes();

        if !command.is_ours() && (matches!(request, Request::Other) || !Place::is_meant(word)) {
            return Err(ECANCELED);
        }
        match request {
            Request::Probe => (),
            Request::ReturnProbe => {
                return Err(command.reject(0, 0, Problem::NoReturnProbe, EOPNOTSUPP));
            }
            Request::Other => return Err(command.reject(0, 0, Problem::BadCommand, EINVAL)),
        }

        let place = Place::parse(word)
            .map_err(|wrong| command.reject(1, wrong.offset, wrong.problem, wrong.error))?;
        let name = command.event_name()?;
        let probe = Self::new(command, &place)?;

        let default_name;
        let event = match name.event() {
            Some(event) => event,
            None => {
                default_name = CString::try_from_fmt(fmt!("p_{}_{:#x}", place.pid, place.addr))?;
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

    fn show_place(&self, m: &SeqFile) {
        seq_print!(m, "{}:{:#018x}", self.pid, self.addr.as_usize());
    }

    fn is_at(&self, place: &CStr) -> bool {
        Place::parse(place.to_bytes())
            .is_ok_and(|place| place.pid == self.pid && place.addr == self.addr.as_usize())
    }

    fn is_same_place(&self, other: &Self) -> bool {
        self.pid == other.pid && self.addr == other.addr
    }

    #[inline]
    fn file_base(&self) -> Option<usize> {
        self.file_base
    }

    fn enable(probe: ArcBorrow<'_, Probe<Self>>) -> Result<Registration> {
        let place = probe.place();
        let hits = Arc::new(Hits(probe.into()), GFP_KERNEL)?;

        uprobes::register(&place.process, Spot::at(place.addr), hits)
    }

    fn disable(enabled: impl Iterator<Item = Registration>) {
        Registration::unregister_all(enabled);
    }
}

/// Takes the hits of an enabled probe.
struct Hits(Arc<Probe<UserProbe>>);

impl Client for Hits {
    fn hit(&self, regs: &mut PtRegs) {
        let place = self.0.place();

        place.hits.increment();
        if self.0.trace(regs).is_err() {
            place.misses.increment();
        }
    }
}
