// SPDX-License-Identifier: GPL-2.0

//! Test client of UBP, which programs drive through `/dev/ubp_test`. `tools/testing/selftests/ubp`
//! uses it, and `ubp_test.h` describes its interface.

use kernel::{
    current,
    fs::File,
    insn::{
        Mode,
        MAX_INSN_SIZE, //
    },
    ioctl::{
        _IO,
        _IOW,
        _IOWR, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    str::CStr,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow,
        Mutex, //
    },
    task::Task,
    threads,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
    ubp::{
        self,
        Analysis,
        Plan, //
    },
};

mod placed;

use placed::{
    Contexts,
    Placed, //
};

module! {
    type: UbpTestModule,
    name: "ubp_test",
    authors: ["Rust for Linux Contributors"],
    description: "Test client of UBP",
    license: "GPL",
}

const REASON_SIZE: usize = 64;

/// Returns `UBP_TEST_REFUSED` or another number for a plan.
fn plan_number(plan: Option<Plan>) -> u8 {
    match plan {
        None => 0,
        Some(Plan::Emulate) => 1,
        Some(Plan::Boost) => 2,
        Some(Plan::Step) => 3,
    }
}

/// `struct ubp_test_insn`.
#[repr(C)]
struct TestInsn {
    vaddr: u64,
    bytes: [u8; MAX_INSN_SIZE],
    avail: u8,
    is_32bit: u8,
    len: u8,
    plan: u8,
    pad: [u8; 5],
    reason: [u8; REASON_SIZE],
}

/// `struct ubp_test_analyze`.
#[repr(C)]
struct TestAnalyze {
    insns: u64,
    count: u64,
}

/// `struct ubp_test_insert`.
#[repr(C)]
struct TestInsert {
    pid: i32,
    flags: u32,
    vaddr: u64,
    plan: u32,
    pad: u32,
}

/// `struct ubp_test_count`.
#[repr(C)]
struct TestCount {
    id: u32,
    active: u32,
    task_hits: u64,
    interrupt_hits: u64,
}

const _: () = assert!(size_of::<TestInsn>() == 96);

// SAFETY: `TestInsn` consists of integers, for which every bit pattern is valid.
unsafe impl FromBytes for TestInsn {}
// SAFETY: `TestInsn` consists of integers without padding between them.
unsafe impl AsBytes for TestInsn {}
// SAFETY: `TestAnalyze` consists of integers, for which every bit pattern is valid.
unsafe impl FromBytes for TestAnalyze {}
// SAFETY: `TestInsert` consists of integers, for which every bit pattern is valid.
unsafe impl FromBytes for TestInsert {}
// SAFETY: `TestInsert` consists of integers without padding between them.
unsafe impl AsBytes for TestInsert {}
// SAFETY: `TestCount` consists of integers, for which every bit pattern is valid.
unsafe impl FromBytes for TestCount {}
// SAFETY: `TestCount` consists of integers without padding between them.
unsafe impl AsBytes for TestCount {}

const ANALYZE: u32 = _IOW::<TestAnalyze>('b' as u32, 1);
const INSERT: u32 = _IOWR::<TestInsert>('b' as u32, 2);
const REMOVE: u32 = _IO('b' as u32, 3);
const COUNT: u32 = _IOWR::<TestCount>('b' as u32, 4);
const VALIDATE: u32 = _IOW::<TestInsert>('b' as u32, 5);

impl TestInsn {
    /// Stores the analysis of the instruction.
    fn analyze(&mut self) {
        let mode = if self.is_32bit != 0 {
            Mode::Bits32
        } else {
            Mode::Bits64
        };
        let bytes = self.bytes.get(..self.avail.into()).unwrap_or(&self.bytes);
        let analysis = ubp::analyze(bytes, self.vaddr as usize, mode);
        self.set(&analysis);
    }

    fn set(&mut self, analysis: &Analysis) {
        self.len = analysis.length().map_or(0, |len| len as u8);
        self.plan = plan_number(analysis.plan().ok());
        self.reason = [0; REASON_SIZE];
        if let Err(refused) = analysis.plan() {
            self.set_reason(refused.reason());
        }
    }

    fn set_reason(&mut self, reason: &CStr) {
        // The last byte stays 0.
        let room = self.reason.iter_mut().take(REASON_SIZE - 1);
        for (to, from) in room.zip(reason.to_bytes()) {
            *to = *from;
        }
    }
}

/// Analyses an array of instructions in place.
fn analyze(request: TestAnalyze) -> Result {
    let size = usize::try_from(request.count)?
        .checked_mul(size_of::<TestInsn>())
        .ok_or(EINVAL)?;
    let insns = UserPtr::from_addr(usize::try_from(request.insns)?);
    let (mut reader, mut writer) = UserSlice::new(insns, size).reader_writer();
    while !reader.is_empty() {
        let mut insn = reader.read::<TestInsn>()?;
        insn.analyze();
        writer.write(&insn)?;
        if current!().signal_pending() {
            return Err(EINTR);
        }
    }
    Ok(())
}

/// Finds a thread of a process that the caller may attach to.
fn find(pid: i32) -> Result<ARef<Task>> {
    let task = match pid {
        0 => ARef::from(&**current!()),
        pid => threads::find(pid).ok_or(ESRCH)?,
    };
    if task.may_attach() {
        Ok(task)
    } else {
        Err(EACCES)
    }
}

/// Checks whether a breakpoint could be inserted.
fn validate(request: TestInsert) -> Result {
    ubp::validate(&*find(request.pid)?, usize::try_from(request.vaddr)?)
}

/// The breakpoints of an open file.
struct TestBreakpoints {
    last_id: i32,
    by_id: RBTree<i32, Placed>,
}

/// An open file.
#[pin_data]
struct Session {
    /// Held for lookups. Breakpoints are inserted and dropped without it.
    #[pin]
    breakpoints: Mutex<TestBreakpoints>,
}

impl Session {
    /// Adds a breakpoint and returns its number.
    fn add(&self, placed: Placed) -> Result<i32> {
        let mut breakpoints = self.breakpoints.lock();
        let id = breakpoints.last_id.checked_add(1).ok_or(ENOSPC)?;
        // If there is no memory, the breakpoint is dropped with the lock held. Handlers do not take
        // the lock.
        breakpoints
            .by_id
            .try_create_and_insert(id, placed, GFP_KERNEL)?;
        breakpoints.last_id = id;
        Ok(id)
    }

    fn insert(&self, arg: UserPtr) -> Result<isize> {
        let (mut reader, mut writer) = UserSlice::new(arg, size_of::<TestInsert>()).reader_writer();
        let mut request = reader.read::<TestInsert>()?;
        let contexts = Contexts::from_flags(request.flags)?;
        let task = find(request.pid)?;
        let placed = Placed::insert(&task, usize::try_from(request.vaddr)?, contexts)?;
        request.plan = plan_number(Some(placed.plan())).into();
        writer.write(&request)?;
        Ok(self.add(placed)? as isize)
    }

    fn remove(&self, id: usize) -> Result {
        let id = i32::try_from(id)?;
        let removed = self.breakpoints.lock().by_id.remove(&id);
        // The breakpoint is dropped here, with the lock released.
        removed.map(drop).ok_or(ENOENT)
    }

    fn count(&self, arg: UserPtr) -> Result {
        let (mut reader, mut writer) = UserSlice::new(arg, size_of::<TestCount>()).reader_writer();
        let id = i32::try_from(reader.read::<TestCount>()?.id)?;
        let counts = {
            let breakpoints = self.breakpoints.lock();
            breakpoints.by_id.get(&id).ok_or(ENOENT)?.counts().clone()
        };
        writer.write(&TestCount {
            id: id as u32,
            active: counts.active() as u32,
            task_hits: counts.task_hits() as u64,
            interrupt_hits: counts.interrupt_hits() as u64,
        })
    }
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = Arc<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                breakpoints <- new_mutex!(TestBreakpoints {
                    last_id: 0,
                    by_id: RBTree::new(),
                }),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(session: ArcBorrow<'_, Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let pointer = UserPtr::from_addr(arg);
        match cmd {
            ANALYZE => {
                let slice = UserSlice::new(pointer, size_of::<TestAnalyze>());
                analyze(slice.reader().read()?)?;
            }
            INSERT => return session.insert(pointer),
            REMOVE => session.remove(arg)?,
            COUNT => session.count(pointer)?,
            VALIDATE => {
                let slice = UserSlice::new(pointer, size_of::<TestInsert>());
                validate(slice.reader().read()?)?;
            }
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

#[pin_data]
struct UbpTestModule {
    #[pin]
    _device: MiscDeviceRegistration<Session>,
}

impl kernel::InPlaceModule for UbpTestModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"ubp_test",
            }),
        })
    }
}
