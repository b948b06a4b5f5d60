// SPDX-License-Identifier: GPL-2.0

//! Attachment of engines to a thread.

use crate::{
    engine::{
        Engine,
        EngineSpec, //
    },
    hooks::Active,
    process::{
        self,
        ProcessEngines,
        UseGuard, //
    },
    thread::{
        self,
        AttachedEngine,
        Phase,
        Thread,
        ThreadState, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    task::Task,
    utrace_types::Events, //
};

/// Parameters of an attachment.
pub(crate) struct AttachRequest {
    /// `UTRACE_ATTACH_` flags.
    pub(crate) flags: u32,
    pub(crate) spec: EngineSpec,
    /// The events that are enabled for a new engine.
    pub(crate) events: Events,
}

/// Attaches a new engine, or looks for one, depending on the flags. A new engine belongs to
/// `process`, if that is given.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ENOENT` if no engine matches, and none is to be created. `EEXIST` if an engine matches, and the
/// new one was to be exclusive. `EPERM` if the thread never goes to user mode. `ESRCH` if the
/// thread exits. `ENOMEM` if there is no memory.
pub(crate) fn attach(
    task: &Task,
    request: AttachRequest,
    process: Option<Arc<ProcessEngines>>,
) -> Result<Arc<Engine>> {
    if task.is_worker() {
        return Err(EPERM);
    }
    if request.flags & bindings::UTRACE_ATTACH_CREATE == 0 {
        let thread = thread::get(task).ok_or(ENOENT)?;
        let state = thread.state.lock();
        return lookup(&state, &request).ok_or(ENOENT);
    }
    let active = match &process {
        None => Active::new(),
        Some(shared) => shared.active.try_clone()?,
    };
    let thread = thread::get_or_create(task)?;
    let engine = Engine::new(request.spec, request.events, thread.clone(), process)?;
    add(task, &thread, &engine, &request, active)?;
    Ok(engine)
}

fn lookup(state: &ThreadState, request: &AttachRequest) -> Option<Arc<Engine>> {
    state
        .engines
        .iter()
        .find(|entry| entry.engine.matches(request.flags, request.spec))
        .map(|entry| entry.engine.clone())
}

fn add(
    task: &Task,
    thread: &Thread,
    engine: &Arc<Engine>,
    request: &AttachRequest,
    active: Active,
) -> Result {
    let mut room: KVec<AttachedEngine> = KVec::new();
    loop {
        let mut state = thread.state.lock();
        // `thread::exiting` sets PF_EXITING and then looks for a `Thread`, with a barrier in
        // between. Here, the exchange in `thread::get_or_create` is the barrier between storing the
        // `Thread` and reading the flag. So either `thread::exiting` finds this `Thread`, or this
        // sees the flag.
        if state.phase != Phase::Live || task.is_exiting() {
            return Err(ESRCH);
        }
        if request.flags & bindings::UTRACE_ATTACH_EXCLUSIVE != 0
            && lookup(&state, request).is_some()
        {
            return Err(EEXIST);
        }
        let of_process = |shared| {
            let mut engines = state.engines.iter();
            engines.any(|entry| process::is_of(&entry.engine, shared))
        };
        if engine.process_engines().is_some_and(of_process) {
            return Err(EEXIST);
        }
        let len = state.engines.len();
        if len < state.engines.capacity() || len < room.capacity() {
            if len == state.engines.capacity() {
                // Move the list to the larger buffer.
                for entry in state.engines.drain_all() {
                    let _ = room.push_within_capacity(entry);
                }
                core::mem::swap(&mut state.engines, &mut room);
            }
            let live = match engine.process_engines() {
                None => None,
                Some(shared) => Some(UseGuard::new(shared).ok_or(ESRCH)?),
            };
            let id = state.next_id;
            engine.set_id(id, &state);
            let entry = AttachedEngine::new(engine.clone(), live, active);
            // The capacity was checked above.
            let _ = state.engines.push_within_capacity(entry);
            state.next_id = id.wrapping_add(1);
            state.publish_events(task);
            return Ok(());
        }
        drop(state);
        room.reserve(len.wrapping_add(2), GFP_KERNEL)?;
    }
}
