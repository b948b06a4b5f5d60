// SPDX-License-Identifier: GPL-2.0

//! Handler chain of a probepoint: the consumers, the probe of the mapped file, and the return
//! breakpoints that a hit calls.

use crate::{
    consumer::HandlerKind,
    entry::{
        ChainEntry,
        EndedCall,
        GroupReturnPoint,
        ReturnPoint, //
    },
    guard::HandlerGuard,
    single::{
        SingleConsumer,
        SingleFunction,
        SingleReturnPoint, //
    },
};

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::tasks_trace::Guard,
    threads::ThreadGroup, //
};

mod file;

use file::FilePart;

/// The way that a hit takes through a chain, chosen when the chain is made.
///
/// The variants other than [`HitPath::Chain`] are fast paths.
// With an explicit tag, because the compiler may otherwise encode it in a field, and each hit would
// have to decode it.
#[repr(u8)]
pub(crate) enum HitPath {
    /// One consumer, with one handler, which is called with interrupts disabled.
    SingleInInterrupt(SingleConsumer),
    /// One consumer, with one handler, which is called in task context.
    SingleInTask(SingleConsumer),
    /// One consumer, which has a return handler and no handler for interrupt context.
    SingleFunction(SingleFunction),
    /// One return breakpoint, and no consumer.
    SingleReturnPoint(SingleReturnPoint),
    /// Everything else.
    Chain(ChainContexts),
}

/// The contexts in which the entries of a chain are called.
#[derive(Clone, Copy)]
pub(crate) struct ChainContexts {
    in_interrupt: bool,
    in_task: bool,
    /// Whether there are return breakpoints.
    at_return: bool,
    /// Whether there is nothing but the probe of the mapped file.
    // Not a path of its own: another one takes an instruction of all hits.
    pub(crate) is_single_file: bool,
}

impl ChainContexts {
    const fn empty() -> Self {
        Self {
            in_interrupt: false,
            in_task: false,
            at_return: false,
            is_single_file: false,
        }
    }

    fn new(
        entries: &[ChainEntry],
        file: Option<&FilePart>,
        return_points: &[GroupReturnPoint],
    ) -> Self {
        let at_return = !return_points.is_empty();
        let is_for_task = entries.iter().any(|entry| entry.is_for_task);
        Self {
            in_interrupt: entries.iter().any(|entry| entry.is_for_interrupt),
            in_task: at_return || file.is_some() || is_for_task,
            at_return,
            is_single_file: file.is_some() && entries.is_empty() && !at_return,
        }
    }
}

impl HitPath {
    fn new(
        entries: &[ChainEntry],
        file: Option<&FilePart>,
        return_points: &[GroupReturnPoint],
    ) -> Self {
        match (entries, return_points) {
            _ if file.is_some() => (),
            ([], [point]) => return Self::SingleReturnPoint(SingleReturnPoint::new(point)),
            ([entry], []) => match (
                &entry.function_entry,
                entry.is_for_interrupt,
                entry.is_for_task,
            ) {
                (None, true, false) => return Self::SingleInInterrupt(SingleConsumer::new(entry)),
                (None, false, true) => return Self::SingleInTask(SingleConsumer::new(entry)),
                (Some(function_entry), false, _) => {
                    return Self::SingleFunction(SingleFunction::new(entry, function_entry));
                }
                _ => (),
            },
            _ => (),
        }
        Self::Chain(ChainContexts::new(entries, file, return_points))
    }
}

/// A return that consumers wait for: the entry of the function, and the number of the newest of
/// these consumers.
struct Expected<'a> {
    function_entry: &'a dyn ReturnPoint,
    generation: u64,
}

/// Copies the items of a list that `keep` holds for, and reserves room for `more` items.
fn copied<T: Clone>(list: &[T], more: usize, keep: impl Fn(&T) -> bool) -> Result<KVec<T>> {
    let mut copy = KVec::with_capacity(list.len() + more, GFP_KERNEL_ACCOUNT)?;
    for item in list.iter().filter(|item| keep(item)) {
        copy.push(item.clone(), GFP_KERNEL_ACCOUNT)?;
    }
    Ok(copy)
}

/// The consumers at a probepoint, in the order of their registration, then those of the file, and
/// the return breakpoints there.
pub(crate) struct HandlerChain {
    hit_path: HitPath,
    entries: KVec<ChainEntry>,
    file: Option<FilePart>,
    /// At most one for each process.
    return_points: KVec<GroupReturnPoint>,
}

impl HandlerChain {
    pub(crate) const fn new() -> Self {
        Self {
            hit_path: HitPath::Chain(ChainContexts::empty()),
            entries: KVec::new(),
            file: None,
            return_points: KVec::new(),
        }
    }

    fn from_parts(
        entries: KVec<ChainEntry>,
        file: Option<FilePart>,
        return_points: KVec<GroupReturnPoint>,
    ) -> Self {
        Self {
            hit_path: HitPath::new(&entries, file.as_ref(), &return_points),
            entries,
            file,
            return_points,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.file.is_none() && self.return_points.is_empty()
    }

    fn copied_file(&self) -> Result<Option<FilePart>> {
        self.file
            .as_ref()
            .map(|file| file.copied(0, |_| true))
            .transpose()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ChainEntry> {
        self.entries.iter()
    }

    /// Returns a copy that has one more consumer at the end.
    pub(crate) fn with(&self, entry: ChainEntry) -> Result<Self> {
        let points = copied(&self.return_points, 0, |_| true)?;
        let mut entries = copied(&self.entries, 1, |_| true)?;
        entries.push(entry, GFP_KERNEL_ACCOUNT)?;
        Ok(Self::from_parts(entries, self.copied_file()?, points))
    }

    /// Returns a copy that has one more return breakpoint.
    pub(crate) fn with_return_point(&self, point: GroupReturnPoint) -> Result<Self> {
        let mut points = copied(&self.return_points, 1, |_| true)?;
        points.push(point, GFP_KERNEL_ACCOUNT)?;
        Ok(Self::from_parts(
            copied(&self.entries, 0, |_| true)?,
            self.copied_file()?,
            points,
        ))
    }

    /// Returns a copy that has the consumers that `keep` holds for, and the return breakpoints that
    /// `keep_point` holds for.
    pub(crate) fn retaining(
        &self,
        keep: impl Fn(&ChainEntry) -> bool,
        keep_point: impl Fn(&GroupReturnPoint) -> bool,
    ) -> Result<Self> {
        Ok(Self::from_parts(
            copied(&self.entries, 0, keep)?,
            self.copied_file()?,
            copied(&self.return_points, 0, keep_point)?,
        ))
    }

    /// Returns a copy that has nothing of a process.
    pub(crate) fn without_group(&self, group: ThreadGroup) -> Result<Self> {
        let file = match &self.file {
            Some(file) => Some(file.copied(0, |it| it.group != group)?),
            None => None,
        };
        Ok(Self::from_parts(
            copied(&self.entries, 0, |it| it.group != group)?,
            file,
            copied(&self.return_points, 0, |it| it.group != group)?,
        ))
    }

    /// Returns the entries that `is_wanted` holds for and that fire for the current thread, which
    /// belongs to `group`.
    #[inline]
    fn firing<'a>(
        &'a self,
        group: ThreadGroup,
        handler_guard: &'a HandlerGuard,
        is_wanted: impl Fn(&ChainEntry) -> bool + 'a,
    ) -> impl Iterator<Item = &'a ChainEntry> {
        self.entries.iter().filter(move |entry| {
            entry.group == group
                && is_wanted(entry)
                && handler_guard.fires(entry.probe.as_arc_borrow())
        })
    }

    #[inline]
    pub(crate) fn hit_path(&self) -> &HitPath {
        &self.hit_path
    }

    /// Calls the handlers for interrupt context, and returns whether there is something to do in
    /// task context. Interrupts are disabled at a hit; only tests pass `false` for
    /// `interrupts_off`.
    // Inlined because most chains have no such handler: a hit then only tests a flag.
    #[inline(always)]
    pub(crate) fn hit_in_interrupt(
        &self,
        contexts: &ChainContexts,
        group: ThreadGroup,
        interrupts_off: bool,
        regs: &mut PtRegs,
    ) -> bool {
        if contexts.in_interrupt {
            self.call_in_interrupt(group, interrupts_off, regs);
        }
        contexts.in_task
    }

    // Not inlined, so that chains without such a handler do not save registers for it.
    #[inline(never)]
    fn call_in_interrupt(&self, group: ThreadGroup, interrupts_off: bool, regs: &mut PtRegs) {
        let handler_guard = HandlerGuard::new(interrupts_off);
        let at = regs.ip();
        for entry in self.firing(group, &handler_guard, |entry| entry.is_for_interrupt) {
            entry.probe.hits.increment();
            handler_guard.call(
                entry.probe.as_arc_borrow(),
                HandlerKind::Interrupt,
                at,
                regs,
            );
        }
    }

    /// Calls the handlers for task context, and then the return points.
    // Not inlined, to keep the loops out of the fast paths.
    #[inline(never)]
    pub(crate) fn hit_in_task(
        &self,
        contexts: &ChainContexts,
        at: usize,
        group: ThreadGroup,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let handler_guard = &HandlerGuard::new(false);
        let mut expected: Option<Expected<'_>> = None;
        for entry in self.firing(group, handler_guard, |entry| entry.is_for_task) {
            let probe = entry.probe.as_arc_borrow();
            if !entry.is_for_interrupt {
                probe.hits.increment();
            }
            if probe.handlers.task {
                handler_guard.call(probe, HandlerKind::Task, at, regs);
            }
            if let Some(function_entry) = &entry.function_entry {
                expected = Some(Expected {
                    function_entry: &**function_entry,
                    generation: expected.map_or(probe.id, |so_far| so_far.generation.max(probe.id)),
                });
            }
        }
        if let Some(file) = &self.file {
            let moved = regs.ip();
            regs.set_ip(at);
            let wanted = file.hit(at, regs, guard);
            if regs.ip() == at {
                regs.set_ip(moved);
            }
            let entry = file.function(group).and_then(|it| it.entry.as_ref());
            if let (Some(generation), Some(function_entry)) = (wanted, entry) {
                // The consumers of the process have the same function, and its instance serves
                // both.
                expected = Some(Expected {
                    function_entry: &**function_entry,
                    generation: expected.map_or(generation, |it| it.generation.max(generation)),
                });
            }
        }
        // If a handler has moved the thread, the thread does not enter the function.
        if let Some(expected) = expected.filter(|_| regs.ip() == at) {
            let Expected {
                function_entry,
                generation,
            } = expected;
            if function_entry.reached(generation, regs, guard).is_err() {
                self.missed(group, generation);
            }
        }
        // Return breakpoints come after the entry, because the function that the thread has just
        // entered may return by its first instruction.
        if contexts.at_return {
            for point in self.return_points.iter().filter(|it| it.group == group) {
                let _ = point.point.reached(0, regs, guard);
            }
        }
    }

    /// Counts a miss: a return of the function here that cannot be detected. `generation` was the
    /// number of the newest consumer at the call.
    #[cold]
    pub(crate) fn missed(&self, group: ThreadGroup, generation: u64) {
        for entry in self.waiting_for_return(group, &HandlerGuard::new(false), generation) {
            entry.probe.misses.increment();
        }
    }

    /// Returns the entries with a return handler that were in the chain when a call was made.
    /// `generation` was the number of the newest consumer then.
    #[inline]
    fn waiting_for_return<'a>(
        &'a self,
        group: ThreadGroup,
        handler_guard: &'a HandlerGuard,
        generation: u64,
    ) -> impl Iterator<Item = &'a ChainEntry> {
        self.firing(group, handler_guard, move |entry| {
            entry.function_entry.is_some() && entry.probe.id <= generation
        })
    }

    /// Calls the return handlers of the function here for a thread of `group`, which returns to
    /// `at`.
    // Not inlined, to keep the loop out of the fast path.
    #[inline(never)]
    pub(crate) fn returned(
        &self,
        group: ThreadGroup,
        at: usize,
        ended: EndedCall,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        if self.entries.is_empty() {
            return self.returned_to_file(ended, regs, guard);
        }
        let handler_guard = HandlerGuard::new(false);
        for entry in self.waiting_for_return(group, &handler_guard, ended.generation) {
            entry.probe.returns.increment();
            handler_guard.call(entry.probe.as_arc_borrow(), HandlerKind::Return, at, regs);
        }
        self.returned_to_file(ended, regs, guard);
    }

    /// Does the same as [`HandlerChain::returned`], with a fast path for a single consumer, which
    /// needs no more than the generation. `ended` returns the whole call.
    // Inlined because another call would add to the instructions of each return.
    #[inline(always)]
    pub(crate) fn returned_fastpath(
        &self,
        group: ThreadGroup,
        at: usize,
        generation: u64,
        ended: impl FnOnce(&PtRegs) -> EndedCall,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        match &self.hit_path {
            HitPath::SingleFunction(single) => single.returned(group, generation, regs),
            HitPath::SingleInInterrupt(_)
            | HitPath::SingleInTask(_)
            | HitPath::SingleReturnPoint(_)
            | HitPath::Chain(_) => self.returned(group, at, ended(regs), regs, guard),
        }
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "chain_test.rs"]
mod tests;
