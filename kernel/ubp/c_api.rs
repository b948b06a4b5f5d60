// SPDX-License-Identifier: GPL-2.0

//! The interface for modules. See `struct ubp_bkpt` in `include/linux/ubp.h`.

use crate::{
    breakpoint::OnHit,
    hit::{
        is_in_hit,
        wait_for_hits,
        Hit,
        Resumed, //
    },
    insert::{
        check,
        insert,
        Inserted,
        Refused, //
    },
    private_text::fault_in, //
};

use kernel::{
    bindings,
    mm::MmWithUser,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    task::Task,
    threads::Group,
    warn_on, //
};
use ubp_arch::{
    analyze,
    length,
    Mode,
    PlanKind,
    Vaddr, //
};

/// The owner that calls the handlers of a `struct ubp_bkpt`.
///
/// # Invariants
///
/// `ubp` is valid until [`COwner::end`] has returned.
struct COwner {
    ubp: *mut bindings::ubp_bkpt,
    handler_in_interrupt:
        Option<unsafe extern "C" fn(*mut bindings::ubp_bkpt, *mut bindings::pt_regs) -> bool>,
    handler: Option<unsafe extern "C" fn(*mut bindings::ubp_bkpt, *mut bindings::pt_regs)>,
    /// A breakpoint whose page could not be had stays, and is hit.
    removed: Atomic<bool>,
}

// SAFETY: The pointer is passed to the handlers only, which are called from any thread by the
// rules of the API.
unsafe impl Send for COwner {}
// SAFETY: As above; several threads may call the handlers at the same time.
unsafe impl Sync for COwner {}

impl COwner {
    /// Sees to it that the handlers are called no more. Waits for those that are executing, unless
    /// the caller is within one.
    fn end(&self) {
        self.removed.store(true, Relaxed);
        wait_for_hits();
    }
}

// SAFETY: `hit` returns what giving up the hit gives, and does nothing after that.
unsafe impl OnHit for COwner {
    #[inline]
    fn hit<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs) -> Resumed {
        // The grace period orders this: a hit that begins after it finds the flag set.
        if self.removed.load(Relaxed) {
            return hit.remove(regs);
        }
        let wants_task = match self.handler_in_interrupt {
            // SAFETY: The registers are valid. By the type invariants `ubp` is: with the guard held
            // since before the flag was read, the grace period cannot be over.
            Some(handler) => unsafe { handler(self.ubp, regs.as_ptr()) },
            None => true,
        };
        match self.handler.filter(|_| wants_task) {
            Some(handler) => hit.in_task(regs, |regs, _| {
                // SAFETY: As above: the guard is held all the time.
                unsafe { handler(self.ubp, regs.as_ptr()) };
            }),
            None => hit.resume(regs),
        }
    }
}

/// What `ubp_bkpt::core` points to.
struct Core {
    inserted: Inserted,
    owner: Arc<COwner>,
}

/// Returns the address space of a thread's process.
///
/// # Safety
///
/// `tsk` is valid, and stays so for the duration of the call.
unsafe fn mm_of(tsk: *mut bindings::task_struct) -> Result<ARef<MmWithUser>> {
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    let task = unsafe { &*tsk.cast::<Task>() };
    Group::of(task)
        .and_then(|group| group.get_mm())
        .ok_or(ESRCH)
}

fn c_plan(plan: PlanKind) -> bindings::ubp_plan {
    match plan {
        PlanKind::Emulate => bindings::ubp_plan_UBP_EMULATE,
        PlanKind::Boost => bindings::ubp_plan_UBP_BOOST,
        PlanKind::Step => bindings::ubp_plan_UBP_STEP,
    }
}

/// Inserts a breakpoint.
///
/// # Safety
///
/// `tsk` is valid for the duration of the call. `ubp` is null or valid, its fields are not changed
/// by others during the call, and if that succeeds, it stays valid until [`ubp_remove_bkpt`] has
/// returned. The handlers may be called with it and the registers of a thread. May sleep.
#[export]
pub(crate) unsafe extern "C" fn ubp_insert_bkpt(
    tsk: *mut bindings::task_struct,
    ubp: *mut bindings::ubp_bkpt,
) -> c_int {
    if ubp.is_null() {
        return EINVAL.to_errno();
    }
    // Not by reference: handlers may access it before this returns.
    //
    // SAFETY: By the requirement on the caller.
    let (vaddr, handler_in_interrupt, handler, core) = unsafe {
        (
            (*ubp).vaddr,
            (*ubp).handler_in_interrupt,
            (*ubp).handler,
            (*ubp).core,
        )
    };
    if !core.is_null() {
        return EBUSY.to_errno();
    }
    // On failure it may have to wait for handlers.
    if is_in_hit() {
        return EDEADLK.to_errno();
    }
    let inserted = (|| {
        // SAFETY: By the requirement on the caller.
        let mm = unsafe { mm_of(tsk) }?;
        // INVARIANT: By the requirement on the caller; `end()` is called below
        // if it fails, and otherwise by `ubp_remove_bkpt()`.
        let owner = Arc::new(
            COwner {
                ubp,
                handler_in_interrupt,
                handler,
                removed: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        let core = KBox::<Core>::new_uninit(GFP_KERNEL)?;
        let inserted = loop {
            match insert(&mm, Vaddr::new(vaddr), owner.clone()) {
                Err(Refused::Errno(EAGAIN)) => (),
                inserted => break inserted,
            }
            if let Err(error) = fault_in(&mm, Vaddr::new(vaddr)) {
                break Err(error.into());
            }
        };
        match inserted {
            Ok(inserted) => Ok(KBox::write(core, Core { inserted, owner })),
            Err(refused) => {
                // It may have been in the map for a moment, where a thread would find it that has
                // hit an earlier breakpoint of this address.
                owner.end();
                Err(Error::from(refused))
            }
        }
    })();
    match inserted {
        Ok(core) => {
            let plan = c_plan(core.inserted.plan());
            // SAFETY: By the requirement on the caller.
            unsafe {
                (*ubp).plan = plan;
                (*ubp).core = KBox::into_raw(core).cast();
            }
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// Takes a breakpoint out. When it returns, no handler of it is executing, nor will be.
///
/// # Safety
///
/// `ubp` is null, or valid and not used by others during the call, except by its handlers; its
/// `core` is null, or of [`ubp_insert_bkpt`]. Must not be called by a handler. May sleep.
#[export]
pub(crate) unsafe extern "C" fn ubp_remove_bkpt(ubp: *mut bindings::ubp_bkpt) {
    if ubp.is_null() {
        return;
    }
    // SAFETY: By the requirement on the caller.
    let core = unsafe { core::ptr::replace(&raw mut (*ubp).core, core::ptr::null_mut()) };
    if core.is_null() {
        return;
    }
    // A handler cannot wait for itself: the caller must not free `ubp` then.
    warn_on!(is_in_hit());
    // SAFETY: By the requirement on the caller it is of `KBox::into_raw` above.
    let core = unsafe { KBox::from_raw(core.cast::<Core>()) };
    // If the page cannot be had, the breakpoint stays; its hits do nothing.
    let _ = core.inserted.remove();
    core.owner.end();
}

/// Says whether there could be a breakpoint at an address.
///
/// # Safety
///
/// `tsk` is valid for the duration of the call. May sleep.
#[export]
pub(crate) unsafe extern "C" fn ubp_validate_insn_addr(
    tsk: *mut bindings::task_struct,
    vaddr: c_ulong,
) -> c_int {
    let checked = (|| {
        // SAFETY: By the requirement on the caller.
        let mm = unsafe { mm_of(tsk) }?;
        Ok::<_, Error>(check(&mm, Vaddr::new(vaddr))?)
    })();
    match checked {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Says what is made of an instruction.
///
/// # Safety
///
/// `bytes` is valid for reads of `avail` bytes, and `insn` for a write.
#[export]
pub(crate) unsafe extern "C" fn ubp_analyze_insn(
    bytes: *const u8,
    avail: usize,
    vaddr: c_ulong,
    is_64bit: bool,
    insn: *mut bindings::ubp_insn,
) -> c_int {
    let bytes = if avail == 0 {
        &[]
    } else {
        // SAFETY: By the requirement on the caller.
        unsafe { core::slice::from_raw_parts(bytes, avail) }
    };
    let mode = if is_64bit { Mode::Bits64 } else { Mode::Bits32 };
    let analyzed = analyze(bytes, Vaddr::new(vaddr), mode);
    let (plan, refusal, errno) = match &analyzed {
        Ok(insn) => (c_plan(insn.plan().kind()), core::ptr::null(), 0),
        Err(refusal) => (
            bindings::ubp_plan_UBP_REFUSED,
            refusal.describe().as_char_ptr(),
            refusal.errno().to_errno(),
        ),
    };
    // At most `MAX_INSN_SIZE`.
    let len = length(bytes, mode).unwrap_or(0) as c_uint;
    // SAFETY: By the requirement on the caller.
    unsafe { insn.write(bindings::ubp_insn { plan, len, refusal }) };
    errno
}
