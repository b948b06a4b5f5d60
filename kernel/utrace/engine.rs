// SPDX-License-Identifier: GPL-2.0

//! An engine: the callbacks and the data of an in-kernel user, on one thread.

use crate::{
    event::Events,
    process::Following,
    thread::Thread, //
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
    types::Opaque, //
};

/// The callbacks and the data that an engine is made of.
///
/// # Invariants
///
/// `ops` points to callbacks that stay valid, and may be called with `data`, until `release` was
/// called, or until the engine is gone if there is no such callback.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
}

impl Client {
    /// # Safety
    ///
    /// As the type invariants say.
    pub(crate) unsafe fn new(ops: *const bindings::utrace_engine_ops, data: *mut c_void) -> Self {
        // INVARIANT: By the requirement on the caller.
        Self { ops, data }
    }

    /// Tells the client that its data is not used any more.
    pub(crate) fn release(self) {
        // SAFETY: By the type invariants.
        if let Some(release) = unsafe { (*self.ops).release } {
            // SAFETY: By the type invariants.
            unsafe { release(self.data) };
        }
    }
}

/// Who an engine was made for.
pub(crate) enum Owner {
    /// Its caller: it is on one thread.
    Caller,
    /// A process: each thread has one.
    Process(Arc<Following>),
}

/// An engine, which C code knows as a `struct utrace_engine`.
///
/// # Invariants
///
/// `ops` and `data` of the C structure are of a [`Client`], and do not change. `flags` is only
/// written with the lock of `thread` held, atomically.
#[repr(C)]
pub(crate) struct Engine {
    public: Opaque<bindings::utrace_engine>,
    thread: Arc<Thread>,
    owner: Owner,
    /// Ascends in the order of attachment, and is never reused on a thread. Set under the lock of
    /// the thread, before the engine is in its list; zero before that.
    id: Atomic<u64>,
}

// SAFETY: What the pointers lead to may be used by any thread, by the invariants of `Client`.
unsafe impl Send for Engine {}
// SAFETY: As above; `flags` is accessed atomically.
unsafe impl Sync for Engine {}

impl Engine {
    pub(crate) fn new(
        client: Client,
        events: Events,
        thread: Arc<Thread>,
        owner: Owner,
    ) -> Result<Arc<Self>> {
        // INVARIANT: Nobody else has the engine yet.
        let public = bindings::utrace_engine {
            ops: client.ops,
            data: client.data,
            flags: events.raw(),
        };
        Ok(Arc::new(
            Self {
                public: Opaque::new(public),
                thread,
                owner,
                id: Atomic::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    /// The engine that C code refers to.
    ///
    /// # Safety
    ///
    /// `raw` came from [`Engine::as_ptr`] or [`Engine::into_raw`], and a reference to the engine
    /// is held for `'a`.
    pub(crate) unsafe fn from_raw<'a>(raw: *mut bindings::utrace_engine) -> &'a Self {
        // SAFETY: By the requirement on the caller: the C structure is the first field.
        unsafe { &*raw.cast() }
    }

    /// Hands a reference to C code.
    pub(crate) fn into_raw(engine: Arc<Self>) -> *mut bindings::utrace_engine {
        Arc::into_raw(engine).cast_mut().cast()
    }

    /// Takes a reference back.
    ///
    /// # Safety
    ///
    /// `raw` came from [`Engine::into_raw`], whose reference is the caller's.
    pub(crate) unsafe fn take_raw(raw: *mut bindings::utrace_engine) -> Arc<Self> {
        // SAFETY: By the requirement on the caller.
        unsafe { Arc::from_raw(raw.cast::<Self>()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::utrace_engine {
        self.public.get()
    }

    pub(crate) fn client(&self) -> Client {
        // SAFETY: By the type invariants these do not change.
        let (ops, data) = unsafe { ((*self.as_ptr()).ops, (*self.as_ptr()).data) };
        // INVARIANT: By the type invariants.
        Client { ops, data }
    }

    /// The callbacks, to be called with [`Engine::as_ptr`].
    pub(crate) fn ops(&self) -> &bindings::utrace_engine_ops {
        // SAFETY: By the invariants of `Client`.
        unsafe { &*self.client().ops }
    }

    fn flags(&self) -> &Atomic<usize> {
        // SAFETY: By the type invariants it is only accessed atomically.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).flags) }
    }

    /// What the engine wants to be told of.
    pub(crate) fn events(&self) -> Events {
        Events::of_word(self.flags().load(Relaxed))
    }

    /// The lock of the thread is held.
    pub(crate) fn set_events(&self, events: Events) {
        self.flags().store(events.raw(), Relaxed);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.load(Relaxed)
    }

    /// The lock of the thread is held, and the engine is not in its list yet.
    pub(crate) fn set_id(&self, id: u64) {
        self.id.store(id, Relaxed);
    }

    pub(crate) fn thread(&self) -> &Thread {
        &self.thread
    }

    /// The process that the engine was made for, if it was.
    pub(crate) fn following(&self) -> Option<&Arc<Following>> {
        match &self.owner {
            Owner::Caller => None,
            Owner::Process(following) => Some(following),
        }
    }

    /// Whether it is one that a caller looks for by what the flags say.
    pub(crate) fn matches(&self, flags: u32, client: Client) -> bool {
        let own = self.client();
        (flags & bindings::UTRACE_ATTACH_MATCH_OPS == 0 || own.ops == client.ops)
            && (flags & bindings::UTRACE_ATTACH_MATCH_DATA == 0 || own.data == client.data)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        match self.owner {
            // If it was never attached its client has been given an error, and keeps the data.
            Owner::Caller if self.id() != 0 => self.client().release(),
            Owner::Caller => (),
            // The last of the process's engines does.
            Owner::Process(_) => (),
        }
    }
}
