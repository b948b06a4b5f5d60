// SPDX-License-Identifier: GPL-2.0

//! Engines: the callbacks and the data of an in-kernel user, on one thread.

use crate::{
    process::ProcessEngines,
    thread::{
        Thread,
        ThreadState, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque,
    utrace_types::Events, //
};

/// The callbacks and the data of an engine.
///
/// # Invariants
///
/// `ops` points to callbacks that stay valid, and may be called with `data`, until `release` is
/// called, or until the engine is gone if there is no `release`.
#[derive(Clone, Copy)]
pub(crate) struct EngineSpec {
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
}

impl EngineSpec {
    /// # Safety
    ///
    /// `ops` and `data` must satisfy the type invariants.
    pub(crate) unsafe fn new(ops: *const bindings::utrace_engine_ops, data: *mut c_void) -> Self {
        // INVARIANT: The caller ensures that `ops` and `data` satisfy it.
        Self { ops, data }
    }

    /// Notifies the owner that the data is not used any more.
    pub(crate) fn release(self) {
        // SAFETY: By the type invariants, `ops` is valid, as `release` has not been called yet.
        if let Some(release) = unsafe { (*self.ops).release } {
            // SAFETY: By the type invariants, `release` may be called with `data`.
            unsafe { release(self.data) };
        }
    }
}

/// An engine. C code sees it as a `struct utrace_engine`.
///
/// # Invariants
///
/// `ops` and `data` of the C structure are from an [`EngineSpec`], and do not change. `flags` is
/// written atomically, and only with the lock of `thread` held.
#[repr(C)]
pub(crate) struct Engine {
    public: Opaque<bindings::utrace_engine>,
    thread: Arc<Thread>,
    /// The process attachment that the engine belongs to, if any.
    process: Option<Arc<ProcessEngines>>,
    /// Ascends in the order of attachment, and is never reused on a thread. Set under the lock of
    /// the thread before the engine is added to its list; zero before that.
    id: Atomic<u64>,
}

// SAFETY: By the invariants of `EngineSpec`, any thread may use its callbacks and data.
unsafe impl Send for Engine {}
// SAFETY: By the invariants of `EngineSpec`, any thread may use its callbacks and data. `flags` is
// accessed atomically.
unsafe impl Sync for Engine {}

impl Engine {
    pub(crate) fn new(
        spec: EngineSpec,
        events: Events,
        thread: Arc<Thread>,
        process: Option<Arc<ProcessEngines>>,
    ) -> Result<Arc<Self>> {
        // INVARIANT: No other thread can access the engine yet.
        let public = bindings::utrace_engine {
            ops: spec.ops,
            data: spec.data,
            flags: events.bits(),
        };
        Ok(Arc::new(
            Self {
                public: Opaque::new(public),
                thread,
                process,
                id: Atomic::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    /// Returns the engine that C code refers to.
    ///
    /// # Safety
    ///
    /// `raw` must be from [`Engine::as_ptr`] or [`Engine::into_raw`], and a reference to the engine
    /// must be held during `'a`.
    pub(crate) unsafe fn from_raw<'a>(raw: *mut bindings::utrace_engine) -> &'a Self {
        // SAFETY: The caller ensures that `raw` points to an engine that lives during `'a`. The C
        // structure is its first field.
        unsafe { &*raw.cast() }
    }

    /// Passes a reference to C code.
    pub(crate) fn into_raw(engine: Arc<Self>) -> *mut bindings::utrace_engine {
        Arc::into_raw(engine).cast_mut().cast()
    }

    /// Takes back a reference from C code.
    ///
    /// # Safety
    ///
    /// `raw` must be from [`Engine::into_raw`], and the caller must own that reference.
    pub(crate) unsafe fn take_raw(raw: *mut bindings::utrace_engine) -> Arc<Self> {
        // SAFETY: The caller ensures that `raw` is from `into_raw`, and owns the reference.
        unsafe { Arc::from_raw(raw.cast::<Self>()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::utrace_engine {
        self.public.get()
    }

    pub(crate) fn spec(&self) -> EngineSpec {
        // SAFETY: By the type invariants, `ops` and `data` do not change.
        let (ops, data) = unsafe { ((*self.as_ptr()).ops, (*self.as_ptr()).data) };
        // INVARIANT: By the type invariants, `ops` and `data` are from an `EngineSpec`.
        EngineSpec { ops, data }
    }

    /// Returns the callbacks, which are called with [`Engine::as_ptr`].
    pub(crate) fn ops(&self) -> &bindings::utrace_engine_ops {
        // SAFETY: By the invariants of `EngineSpec`, `ops` stays valid as long as the engine.
        unsafe { &*self.spec().ops }
    }

    fn flags(&self) -> &Atomic<usize> {
        // SAFETY: By the type invariants, `flags` is written only atomically.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).flags) }
    }

    /// Returns the events that are enabled for the engine.
    pub(crate) fn events(&self) -> Events {
        Events::from_bits_truncate(self.flags().load(Relaxed))
    }

    /// Sets the events that are enabled. `_state` is the locked state of the thread.
    pub(crate) fn set_events(&self, events: Events, _state: &ThreadState) {
        self.flags().store(events.bits(), Relaxed);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.load(Relaxed)
    }

    /// Sets the id. `_state` is the locked state of the thread. The caller must add the engine to
    /// the list of that thread afterwards.
    pub(crate) fn set_id(&self, id: u64, _state: &ThreadState) {
        self.id.store(id, Relaxed);
    }

    pub(crate) fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Returns the process attachment that the engine belongs to, if any.
    pub(crate) fn process_engines(&self) -> Option<&Arc<ProcessEngines>> {
        self.process.as_ref()
    }

    /// Returns whether the engine matches `spec`, in the parts that `flags` select.
    pub(crate) fn matches(&self, flags: u32, spec: EngineSpec) -> bool {
        let own = self.spec();
        (flags & bindings::UTRACE_ATTACH_MATCH_OPS == 0 || own.ops == spec.ops)
            && (flags & bindings::UTRACE_ATTACH_MATCH_DATA == 0 || own.data == spec.data)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The last engine of a process releases the data. An engine without an id was never
        // attached: its owner got an error, and keeps the data.
        if self.process.is_none() && self.id() != 0 {
            self.spec().release();
        }
    }
}
