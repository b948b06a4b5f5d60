// SPDX-License-Identifier: GPL-2.0

//! Dynamic trace events on probes.
//!
//! A *probe event* is a trace event that user space makes by writing a line to a control file in
//! tracefs. It has a place, where the probe is, and arguments, which are fetched at a hit and
//! become the fields of the event. Events, their fields, filters, triggers and the parser of the
//! arguments are the kernel's own; what differs from one type of probe event to the next is the
//! place, and that is what implements [`ProbeEvent`].
//!
//! This is for probes in user space: arguments are fetched from the registers and the memory of
//! the current task.
//!
//! # Locks
//!
//! `dyn_event_ops_mutex` is held while a line is carried out, for it protects the error log's idea
//! of the line; see [`Command`]. `event_mutex`, taken inside of it, protects the lists of events
//! and whether an event is enabled; see [`lock`]. A hit takes neither: it relies on RCU, see
//! [`Probe::trace`] and [`Probe::profile`].
//!
//! C headers: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h) and
//! [`kernel/trace/trace_dynevent.h`](srctree/kernel/trace/trace_dynevent.h)

use crate::{
    fmt,
    prelude::*,
    seq_file::SeqFile,
    str::CStr,
    sync::ArcBorrow,
    task::Task, //
};

mod args;
mod class;
mod command;
mod contents;
mod event_type;
mod fetch;
mod files;
mod kind;
mod linked;
mod lock;
mod perf;
mod plan;
mod probe;
mod record;
mod targets;
mod usage;

pub use self::{
    command::{
        Command,
        EventName,
        Problem, //
    },
    event_type::EventType,
    files::{
        create_file,
        EventFile, //
    },
    kind::Kind,
    linked::Linked,
    probe::Probe,
    record::DirectProbe,
    usage::Usage, //
};

/// A type of probe event; the value is the place of one probe.
pub trait ProbeEvent: Sized + Send + Sync + 'static {
    /// What keeps a probe in place while its event is enabled, for one [`Usage`].
    type Enabled: Send;

    /// Name of the type in the error log.
    const NAME: &'static CStr;

    /// The one [`EventType`] of this type.
    fn event_type() -> &'static EventType<Self>;

    /// Carries out a line that makes a probe, with [`Probe::create`].
    ///
    /// # Errors
    ///
    /// [`ECANCELED`] if the line is one of another type's, as far as one can tell. Other errors
    /// should have been entered in the log by [`Command::reject`].
    fn create(command: &Command<'_>) -> Result;

    /// What the probe notices.
    fn kind(&self) -> Kind;

    /// The address of the instruction, or of the function that returns.
    fn address(&self) -> usize;

    /// Writes the beginning of a line that would make the probe: `start`, and the place in the form
    /// in which lines have it. If the reader cannot make the probe by any line, the line must be a
    /// comment.
    fn show_line(&self, m: &SeqFile, start: fmt::Arguments<'_>);

    /// Whether `place`, from a line, is this one.
    fn is_at(&self, place: &CStr) -> bool;

    /// Whether a probe at `other` would be the same probe.
    fn is_same_place(&self, other: &Self) -> bool;

    /// Returns whether the probe, which can never fire again, is for the same line as one that is
    /// made at `new`.
    fn is_replaced_by(&self, new: &Self) -> bool;

    /// Returns whether the probe can never fire again: its process has exited, or has executed
    /// another program.
    fn is_over(&self) -> bool;

    /// Returns whether the probe is in the process of a thread.
    fn is_in_process_of(&self, thread: &Task) -> bool;

    /// Address at which offset 0 of the probed file would be, if a file is what is probed.
    fn file_base(&self) -> Option<usize>;

    /// Puts the probe in place. From then on hits go to [`Probe::trace`], or to [`Probe::profile`].
    /// That may be asked for both; what is returned for one is independent of the other.
    fn enable(probe: ArcBorrow<'_, Probe<Self>>, usage: Usage) -> Result<Self::Enabled>;

    /// Takes all the probes of an event away, and waits until no hit is being handled.
    fn disable(enabled: impl Iterator<Item = Self::Enabled>) {
        enabled.for_each(drop);
    }
}
