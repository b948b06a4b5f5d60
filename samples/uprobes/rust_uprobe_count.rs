// SPDX-License-Identifier: GPL-2.0

//! Counts how often a process executes an instruction. A sample of uprobes in Rust;
//! `uprobe_count.c` does the same in C.
//!
//! ```text
//! insmod rust_uprobe_count.ko pid=4711 vaddr=0x401136
//! ```
//!
//! If the instruction is the first one of a function, and its size is given, the returns of the
//! function are counted as well. What was counted is in the kernel's log when the module has been
//! unloaded, which it can be at any time. See `Documentation/trace/uprobes-by-process.rst`.

use core::mem::take;

use kernel::{
    new_mutex,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    uprobes::{
        Handler,
        Probe,
        Spot, //
    },
};

module! {
    type: CountModule,
    name: "rust_uprobe_count",
    authors: ["Rust for Linux Contributors"],
    description: "Sample of uprobes: counts how often an instruction is executed",
    license: "GPL",
    params: {
        pid: i32 {
            default: 0,
            description: "A thread of the process, in the pid namespace of the loader",
        },
        vaddr: usize {
            default: 0,
            description: "Address of an instruction in the process",
        },
        size: usize {
            default: 0,
            description: "Bytes of the function that begins there, to count returns (0: do not)",
        },
        follow: bool {
            default: false,
            description: "Count in the processes that it forks as well",
        },
        limit: usize {
            default: 0,
            description: "Take the probes out after so many hits (0: do not)",
        },
        show: usize {
            default: 0,
            description: "How many hits to report as they happen",
        },
    },
}

/// What the module and its handlers share.
#[pin_data]
struct Shared {
    hits: Atomic<usize>,
    returns: Atomic<usize>,
    /// Nothing any more when a handler has taken them out.
    #[pin]
    probes: Mutex<KVec<Probe>>,
}

impl Shared {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            hits: Atomic::new(0),
            returns: Atomic::new(0),
            probes <- new_mutex!(KVec::new()),
        })
    }

    /// When this returns no handler runs, nor will one; unless a handler calls this, which cannot
    /// wait for itself.
    fn take_out(&self) {
        // Not while the lock is held, which handlers take.
        let probes = take(&mut *self.probes.lock());
        Probe::unregister_all(probes);
    }
}

struct OnHit(Arc<Shared>);

#[vtable]
impl Handler for OnHit {
    // Several threads may be in here at the same time.
    fn hit(&self, regs: &mut PtRegs) {
        const DI: u8 = 7;
        let number = self.0.hits.fetch_add(1, Relaxed) + 1;

        if number <= module_parameters::show.value() {
            let task = kernel::current!();
            pr_info!(
                "hit {}: process {}, thread {}, first argument {:#x}\n",
                number,
                task.tgid(),
                task.pid(),
                regs.gpr(DI),
            );
        }
        let limit = module_parameters::limit.value();
        if limit != 0 && number >= limit {
            self.0.take_out();
        }
    }
}

struct CountModule(Arc<Shared>);

impl kernel::Module for CountModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let size = module_parameters::size.value();
        let shared = Arc::pin_init(Shared::new(), GFP_KERNEL)?;
        let mut probes = KVec::with_capacity(2, GFP_KERNEL)?;
        let mut spot = Spot::of_pid(
            module_parameters::pid.value(),
            module_parameters::vaddr.value(),
        )
        .size(size);
        if module_parameters::follow.value() {
            spot = spot.follow_fork();
        }
        // Those that are registered go with `probes` if something fails.
        let on_hit = Probe::register(spot, OnHit(shared.clone()))?;
        probes.push(on_hit.into_any(), GFP_KERNEL)?;
        if size != 0 {
            let seen = shared.clone();
            let on_return = Probe::register_return_fn(spot, move |_regs| {
                seen.returns.fetch_add(1, Relaxed);
            })?;
            probes.push(on_return, GFP_KERNEL)?;
        }
        *shared.probes.lock() = probes;
        Ok(Self(shared))
    }
}

impl Drop for CountModule {
    fn drop(&mut self) {
        let shared = &self.0;
        let misses: u64 = shared
            .probes
            .lock()
            .iter()
            .map(|probe| probe.counts().misses)
            .sum();
        shared.take_out();
        pr_info!(
            "{} hits, {} returns, {} misses\n",
            shared.hits.load(Relaxed),
            shared.returns.load(Relaxed),
            misses,
        );
    }
}
